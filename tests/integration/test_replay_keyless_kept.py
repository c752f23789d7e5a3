"""New rows of a table without a key that the old schema cannot hold wait for the next launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launched_twice import attached, keep, launched_again, rolled_back
from replay_ground import LAUNCH, Ground, ask, ground, lines, operations

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.replay import records
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.stash.stash import give_back, take

BEFORE = """
create table entry (id int primary key, memo varchar(5));
create table log (entry_id int, what varchar(5));
insert into entry values (1, 'a'), (2, 'b');
insert into log values (1, 'old'), (2, 'old');
"""
WIDER = "alter table entry alter memo type text; alter table log alter what type text"
WORDS: dict[str, Any] = {"before": BEFORE, "migration": WIDER, "found": operations()}
LONG = "insert into log values (1, 'too long'), (1, 'too long'), (2, 'short')"


def test_they_come_back_and_changes_of_others_are_told(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, WIDER) as made:
        made.write(LONG)
        made.write("update log set what = 'longer yet' where entry_id = 2 and what = 'old'")
        outcome = made.carry()
        assert (outcome.put_aside, outcome.not_carried) == (4, 1)
        kept = [(one["values"]["what"], one["kept"]) for one in lines(outcome, "put_aside")]
        assert sorted(kept) == [("longer yet", False), ("old", False), ("too long", True), ("too long", True)]
        stash = keep(made, tmp_path, tmp_path / "out" / "stash.jsonl")
        assert stash is not None and stash.count == 2
        records.remove(made.twin, LAUNCH)
        with launched_again(made, migration=WIDER) as again:
            assert (attached(made, again).rows, attached(made, again).left) == (2, 0)
            rows = ask(again, "select what, count(*) from log group by 1 order by 1")
            assert rows == [("old", 2), ("short", 1), ("too long", 2)]


def test_one_that_is_gone_by_the_next_replay_does_not_come_back(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, WIDER) as made:
        made.write(LONG)
        assert made.carry().put_aside == 2
        made.write("delete from log where ctid = (select min(ctid) from log where what = 'too long')")
        rows = Path(made.carry().files["stash"])
        assert keep(made, tmp_path, rows)
        records.remove(made.twin, LAUNCH)
        with launched_again(made, migration=WIDER) as again:
            assert (attached(made, again).rows, attached(made, again).left) == (1, 0)
            assert ask(again, "select count(*) from log where what = 'too long'") == [(1,)]


def test_what_is_emptied_by_the_next_replay_does_not_come_back(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, WIDER) as made:
        made.write(LONG)
        made.carry()
        made.write("truncate log", "insert into log values (3, 'this stays')")
        assert [one["values"]["what"] for one in lines(made.carry(), "stash") if one["values"]] == ["this stays"]


def test_what_the_next_launch_does_to_one_that_it_had_again_counts(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, LONG, **WORDS) as (made, first):
        with launched_again(made, migration=WIDER) as again:
            assert attached(made, again).rows == 2
            take(first, "shop-2.1")
            second = Ground(again, made.twin, tmp_path / "second", operations(), {}, arm(again, "shop-2.1"))
            second.write("delete from log where ctid = (select min(ctid) from log where what = 'too long')")
            second.drain()
            out = second.folder / "out"
            words = {"launch_id": "shop-2.1", "out": out, "waiting": [first.rows]}
            outcome = replay(made.twin, again, second.spool, second.mapping(), **words)
            disarm(again, second.facts)
            assert (outcome.put_aside, outcome.not_carried) == (1, 0)
            assert keep(second, tmp_path, out / "stash.jsonl", "shop-2.1")
            give_back(tmp_path, "shop-2.1")
            records.remove(made.twin, "shop-2.1")
        with launched_again(made, migration=WIDER) as third:
            assert (attached(made, third, "shop-2.2").rows, attached(made, third, "shop-2.2").left) == (1, 0)


def test_a_transaction_that_wrote_a_line_of_a_log_comes_back_whole(database: Target, tmp_path: Path) -> None:
    writes = (
        ["update entry set memo = 'too long' where id = 1", "insert into log values (1, 'new')"],
        ["update entry set memo = 'too long' where id = 2", "delete from log where entry_id = 2"],
    )
    with rolled_back(database, tmp_path, *writes, policy="transaction", **WORDS) as (made, stash):
        assert {name: one.rows for name, one in stash.tables.items()} == {"public.entry": 1, "public.log": 1}
        with launched_again(made, migration=WIDER) as again:
            assert (attached(made, again).left, ask(made.twin, "select count(*) from log")) == (0, [(2,)])
            assert ask(again, "select memo from entry order by id") == [("too long",), ("b",)]
            assert sorted(ask(again, "select * from log")) == [(1, "new"), (1, "old"), (2, "old")]
