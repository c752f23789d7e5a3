"""A snapshot that lost a file since it was proven, here or in a store: it is told, and pushes out none that is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest
from commanded import aged, answer, copied, only_id, safepoint
from plan_file import plan_file

from safepoint.backup.shelf import list_there, store_snapshot
from safepoint.config import PlanFile
from safepoint.launch.snapshots.pruning import plan_pruning
from safepoint.postgres.target import Target
from safepoint.stores import open_store


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


def truncate(snapshot: Path) -> None:
    rows = max((snapshot / "archive").iterdir(), key=lambda path: path.stat().st_size)
    rows.write_bytes(rows.read_bytes()[:-1])


LOSSES = {
    "somebody made room": lambda snapshot: shutil.rmtree(snapshot / "archive"),
    "a lifecycle rule": lambda snapshot: (snapshot / "globals.sql").unlink(),
    "a crash": truncate,
}


@pytest.mark.parametrize("where", ["here", "offsite"])
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_one_that_is_not_whole_any_more_pushes_none_out(
    plan: PlanFile, where: str, lose: Callable[[Path], None]
) -> None:
    newest, old = only_id(plan), aged(plan, "old", 50)
    found = {(one.place, one.snapshot_id): one for one in plan_pruning(plan, datetime.now(UTC)).decisions}
    assert found[where, old].verdict == "drop"
    lose({"here": plan.state / "snapshots", "offsite": plan.folder / "offsite"}[where] / newest)
    found = {(one.place, one.snapshot_id): one for one in plan_pruning(plan, datetime.now(UTC)).decisions}
    assert found[where, old].verdict == "keep" and "the newest proven one" in found[where, old].reason
    if where == "here":
        listed = {one["id"]: one for one in answer(safepoint(plan, "backups", "--json"))}
        assert listed[newest]["where"] == ["here", "offsite"] and listed[newest]["proven"], "the store's is whole"
        shutil.rmtree(plan.folder / "offsite")
        listed = {one["id"]: one for one in answer(safepoint(plan, "backups", "--json"))}
        assert not listed[newest]["proven"] and "not whole any more" in listed[newest]["fault"]


def test_an_encrypted_one_that_is_not_whole_any_more_is_told(plan: PlanFile, backed_up: tuple[Path, Target]) -> None:
    """By who has no key, as whoever prunes."""
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    stores = f'[[stores]]\nname = "sealed"\nurl = "file:sealed"\nencrypt_to = ["{recipient}"]\n'
    plan = plan_file(plan.folder, backed_up[1], stores=stores)
    store = open_store(plan.stores[0], plan.folder)
    store_snapshot(plan.state / "snapshots" / only_id(plan), store)
    (listed,) = list_there(store)
    assert listed.proven and listed.fault is None
    (plan.folder / "sealed" / listed.id / "globals.sql.age").unlink()
    (listed,) = list_there(store)
    assert not listed.proven and "globals.sql.age is not there" in str(listed.fault)
