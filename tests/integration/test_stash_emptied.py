"""Rows of a new table that a TRUNCATE took, after an earlier part of the replay had stashed them."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import keep, launched_again
from replay_ground import BOTH, LAUNCH, ask, ground, lines

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.replay import records
from safepoint.wayback.stash.reattach import reattach

NEW = {
    "plain": "create table visit (id int, day int, primary key (id, day));",
    "partitioned": "create table visit (id int, day int, primary key (id, day)) partition by list (day);"
    "create table visit_1 partition of visit for values in (1); create table visit_2 partition of visit default;",
}


@BOTH
@pytest.mark.parametrize("table", NEW.values(), ids=NEW)
def test_emptied_rows_do_not_come_back_with_the_next_launch(
    database: Target, tmp_path: Path, how: How, table: str
) -> None:
    with ground(database, tmp_path, "create table other (id int primary key)", table, how=how) as made:
        made.write("insert into visit values (1, 1), (2, 2), (3, 1)")
        made.carry()
        made.write("truncate visit", "insert into visit values (4, 2)")
        outcome = made.carry()
        rows = [one["key"]["id"] for one in lines(outcome, "stash") if one["action"] != "truncate"]
        assert rows == ["4"]
        stash = keep(made, tmp_path, tmp_path / "out" / "stash.jsonl")
        assert stash is not None
        records.remove(made.twin, LAUNCH)
        with connect(made.twin) as connection:
            old = read_catalogue(connection)
        with launched_again(made, migration=table) as again:
            reattach(again, old, [stash], {}, launch_id="again", out=tmp_path / "left.jsonl")
            assert ask(again, "select id, day from visit order by id") == made.new("select id, day from visit")


@BOTH
def test_of_one_partition_that_was_emptied_only_its_rows_go(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, "create table other (id int primary key)", NEW["partitioned"], how=how) as made:
        made.write("insert into visit values (1, 1), (2, 2), (3, 1)")
        made.carry()
        made.write("truncate visit_1", "insert into visit values (3, 1)")
        outcome = made.carry()
        rows = [one["key"]["id"] for one in lines(outcome, "stash") if one["action"] != "truncate"]
        assert sorted(rows) == ["2", "3"]
