"""Pruning where this machine does not let one snapshot be removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commanded import aged, copied, safepoint

from safepoint.config import PlanFile
from safepoint.postgres.target import Target


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


def test_one_that_the_system_does_not_let_go_keeps_no_other(plan: PlanFile, tmp_path: Path) -> None:
    first, second = aged(plan, "first", 60), aged(plan, "second", 50)
    folder = plan.state / "snapshots"
    (folder / first).rename(tmp_path / "elsewhere")
    (folder / first).symlink_to(tmp_path / "elsewhere")  # the system removes no tree behind a link
    done = safepoint(plan, "prune", "--json")
    verdicts = {one["snapshot"]: one for one in json.loads(done.stdout)["decisions"] if one["place"] == "here"}
    assert verdicts[first]["verdict"] == "failed" and "symbolic link" in verdicts[first]["reason"]
    assert verdicts[second]["verdict"] == "dropped" and not (folder / second).exists()
    assert done.exit_code == 1
