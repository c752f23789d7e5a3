"""Snapshots that are only in a store: fetched for a command, whole or not at all, and gone from here afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from awkward import run
from commanded import aged, answer, copied, only_id, safepoint

from safepoint.config import PlanFile
from safepoint.errors import SafepointError, StoreError
from safepoint.launch.snapshots.pruning import Pruning, carry_out
from safepoint.launch.snapshots.snapshots import at_hand
from safepoint.postgres.target import Target
from safepoint.stores import open_store


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


def test_a_snapshot_that_is_only_in_a_store_is_verified_and_restored_from_there(
    plan: PlanFile, backed_up: tuple[Path, Target]
) -> None:
    name = only_id(plan)
    shutil.rmtree(plan.state / "snapshots" / name)
    assert answer(safepoint(plan, "verify", name, "--json"))["rows"] == 99
    told = answer(safepoint(plan, "restore", name, "--into", "commanded_copy", "--json"))
    try:
        assert (told["rows"], told["database"]) == (99, "commanded_copy")
        assert list((plan.state / "fetched").iterdir()) == []
    finally:
        run(backed_up[1].on("postgres"), "drop database commanded_copy with (force)")


def test_a_damaged_copy_in_a_store_is_found_before_the_server_is_asked(plan: PlanFile) -> None:
    name = only_id(plan)
    path = plan.folder / "offsite" / name / "globals.sql"
    path.write_bytes(path.read_bytes() + b"CREATE ROLE intruder;")
    result = safepoint(plan, "restore", name, "--into", "commanded_copy", "--from", "offsite")
    assert isinstance(result.exception, SafepointError) and "globals.sql" in result.exception.message
    assert list((plan.state / "fetched").iterdir()) == []


def test_a_snapshot_that_is_removed_from_its_store_while_it_is_fetched_is_told_and_not_taken_for_whole(
    plan: PlanFile,
) -> None:
    name, store = only_id(plan), open_store(plan.stores[0], plan.folder)
    with (
        pytest.raises(StoreError) as caught,
        at_hand(plan, name, "offsite", report=lambda _progress: store.remove(name)),
    ):
        pytest.fail("it was taken for whole")
    assert caught.value.remedy and list((plan.state / "fetched").iterdir()) == []


FETCHING = """
import sys; from pathlib import Path; from safepoint.config import load
from safepoint.launch.snapshots.snapshots import at_hand
with at_hand(load(Path(sys.argv[1])), sys.argv[2], "offsite") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["prune", "another fetch", "another version's"])
def test_what_a_killed_command_fetched_goes_with_the_next_one_and_what_is_in_use_stays(
    plan: PlanFile, way: str
) -> None:
    """It is the copy in the clear of a snapshot that may be encrypted in its store."""
    name = only_id(plan)
    words = [sys.executable, "-c", FETCHING, str(plan.path), name]
    both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        folders = [Path(process.stdout.readline().strip()) for process in both if process.stdout]
        assert [(folder.name, (folder / "manifest.json").exists()) for folder in folders] == [(name, True)] * 2
        both[0].kill()
        both[0].wait()
        if way == "another version's":
            shutil.move(folders[0], plan.state / "fetched" / name)
        for path in (plan.state / "fetched").iterdir():
            os.utime(path, (0, 0))
        if way == "another fetch":
            with at_hand(plan, aged(plan, "other", 1), "offsite") as other:
                assert other.name == "other"
        else:
            carry_out(plan, Pruning((), {}), datetime.now(UTC))
        assert list((plan.state / "fetched").iterdir()) == [folders[1].parent]
        assert (folders[1] / "manifest.json").exists()
    finally:
        for process in both:
            process.communicate()
    assert list((plan.state / "fetched").iterdir()) == []
