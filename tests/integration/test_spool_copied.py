"""A copy of the state folder that is older than what the server was told to forget."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from replay_ground import BOTH, ground, lines

from safepoint.errors import CaptureElsewhere
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How


@BOTH
def test_an_older_copy_of_the_spool_is_not_taken_for_all_that_was_captured(
    any_database: Target, tmp_path: Path, how: How
) -> None:
    table = "create table entry (id int primary key)"
    with ground(any_database, tmp_path, table, "select 1", how=how) as made:
        made.write("insert into entry values (1)")
        made.drain()
        older, lacking = tmp_path / "older", tmp_path / "lacking"
        shutil.copytree(tmp_path, older, ignore=shutil.ignore_patterns("older"))
        second, third = replace(made, folder=older), replace(made, folder=lacking)
        made.write("insert into entry values (2)")
        made.drain()
        made.write("insert into entry values (3)")
        for copy in (second, third):
            with pytest.raises(CaptureElsewhere) as told:
                copy.drain()
            assert str(copy.folder) in str(told.value.remedy)
        for name in ("spool", "spool.pos"):
            shutil.copy(tmp_path / name, older / name)
        second.drain()
        outcome = second.replay()
        assert (outcome.carried, outcome.put_aside) == (3, 0), lines(outcome, "put_aside")
        with pytest.raises(CaptureElsewhere):
            made.drain()
