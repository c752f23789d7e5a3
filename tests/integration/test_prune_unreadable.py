"""Pruning while the disk, or the share, of the snapshots does not give a file: nothing goes of which nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from commanded import aged, answer, copied, safepoint

from safepoint.backup.manifest import Unreadable
from safepoint.backup.proof import read_proof
from safepoint.config import PlanFile
from safepoint.postgres.target import Target


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


@pytest.mark.parametrize("name", ["proof.json", "manifest.json"])
def test_a_snapshot_whose_file_cannot_be_read_now_stays(plan: PlanFile, name: str) -> None:
    old = aged(plan, "old", 50)
    folder = plan.state / "snapshots" / old
    (folder / name).rename(folder / "away")
    (folder / name).symlink_to(name)  # as the system refuses it, also to a superuser
    with pytest.raises(Unreadable, match="cannot be read: Too many levels"):
        read_proof(folder)
    told = answer(safepoint(plan, "prune", "--json"))
    verdicts = {(one["place"], one["snapshot"]): one for one in told["decisions"]}
    assert verdicts["here", old]["verdict"] == "keep" and "cannot be read now" in verdicts["here", old]["reason"]
    (folder / name).unlink()
    (folder / "away").rename(folder / name)
    assert read_proof(folder) is not None
    answer(safepoint(plan, "prune", "--json"))
    assert not folder.exists()
