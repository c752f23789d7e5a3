"""Numbers that PostgreSQL alone gives out (GENERATED ALWAYS AS IDENTITY) come back as they were given out."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target

BEFORE = "create table item (id int primary key, code text); insert into item values (1, 'a'), (2, 'b')"
NEXT = """
alter table item add number int not null generated always as identity;
create table mark (id int primary key, number int generated always as identity, note text);
insert into mark (id) values (1), (2);
"""


def test_numbers_that_only_postgresql_gives_out_come_back(database: Target, tmp_path: Path) -> None:
    writes = (
        "insert into item (id, code) values (3, 'lost')",
        "delete from item where id = 3",
        "insert into item (id, code) values (4, 'new')",
        "update mark set number = default, note = 'x' where id = 1",
        "insert into mark (id) values (5)",
    )
    words = {"before": BEFORE, "migration": NEXT}
    with rolled_back(database, tmp_path, *writes, **words) as (made, _), launched_again(made, migration=NEXT) as again:
        done = attached(made, again)
        assert done.left == 0
        numbers = "select id, number from {} order by id"
        assert ask(again, numbers.format("item")) == [(1, 1), (2, 2), (4, 4)]
        assert ask(again, numbers.format("mark")) == [(1, 3), (2, 2), (5, 4)]
        always = "select attidentity::text from pg_attribute where attname = 'number' and attidentity <> ''"
        assert ask(again, always) == [("a",), ("a",)]
