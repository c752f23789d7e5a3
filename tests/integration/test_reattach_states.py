"""Changed rows that were put aside come back as they were in the end, and with nothing from in between."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, keep, launched_again, rolled_back
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ask, ground, operations

from safepoint.postgres.target import Target
from safepoint.wayback.replay import records

LONG = "x" * 30
MOODS = "create table task (id int primary key, name varchar(5), mood text); insert into task values (1, 'a', 'ok');"
MOOD = """
create type mood as enum ('ok', 'bad', 'new');
alter table task alter name type text, alter mood type mood using mood::mood;
"""


def test_a_change_to_a_type_that_the_old_server_does_not_know_comes_back_with_the_row(
    database: Target, tmp_path: Path
) -> None:
    write = "update task set name = 'too long', mood = 'new' where id = 1"
    words = {"before": MOODS, "migration": MOOD, "found": operations()}
    with rolled_back(database, tmp_path, write, **words) as (made, _), launched_again(made, migration=MOOD) as again:
        assert attached(made, again).left == 0
        assert ask(again, "select name, mood::text from task") == [("too long", "new")]


def test_what_a_later_transaction_took_back_does_not_come_back_with_the_earlier_one(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write(f"update customer set name = '{LONG}', mail = 'first' where id = 1")
        made.carry(policy="transaction")
        made.write("update customer set name = 'c1' where id = 1", f"update customer set name = '{LONG}' where id = 2")
        rows = Path(made.carry(policy="transaction").files["stash"])
        assert keep(made, tmp_path, rows) is not None
        records.remove(made.twin, LAUNCH)
        with launched_again(made, migration=RELAX) as again:
            assert attached(made, again).left == 0
            now = ask(again, "select id, name, mail from customer where id < 3 order by id")
            assert now == [(1, "c1", "first"), (2, LONG, "c2@x")]
