"""A rollback where somebody changed a table after the launch, and took that back again."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, LAUNCH, RELAX, RELAXED, SHOP, ground, whole

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay.replay import replay

ADDED = ("alter table customer add vip int default 7",)
WROTE = ("update customer set name = 'wide', vip = 1 where id = 1", "insert into customer (name) values ('new')")


@BOTH
@pytest.mark.parametrize("drained", [False, True], ids=["at the end", "between"])
def test_a_column_that_came_and_went_keeps_nothing_from_being_carried(
    any_database: Target, tmp_path: Path, how: How, drained: bool
) -> None:
    with ground(any_database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        for statements in (("update customer set name = 'before' where id = 2",), ADDED, WROTE):
            made.write(*statements)
            if drained:
                made.drain()
        made.write("alter table customer drop vip", "update customer set name = 'after' where id = 3")
        whole(made, made.carry())
        names = made.old("select id, name from customer order by id")
        assert names == [(1, "wide"), (2, "before"), (3, "after"), (4, "c4"), (5, "c5"), (6, "new")]


@BOTH
def test_another_one_may_have_come_in_its_place(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write(*ADDED, "alter table customer add more text", *WROTE)
        made.write("alter table customer drop vip", "update customer set more = 'said' where id = 2")
        made.drain()
        outcome = replay(made.twin, made.live, made.spool, proven, launch_id=LAUNCH, out=tmp_path / "out")
        assert outcome.put_aside == 0
        assert made.old("select name from customer where id in (1, 6) order by id") == [("wide",), ("new",)]
        kept = "select values ->> 'more' from safepoint.stash where relation like '%customer' and key ->> 'id' = '2'"
        assert made.old(kept) == [("said",)]
