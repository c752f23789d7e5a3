"""Pruning after a rollback: what the launch took is kept for its time, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from commanded import aged, copied

from safepoint.launch.ledger import Ledger
from safepoint.launch.snapshots.pruning import plan_pruning
from safepoint.postgres.target import Target

LAUNCH = "shop-1.9-20260101"


def test_nobody_goes_back_to_the_snapshots_of_a_launch_that_was_rolled_back(
    backed_up: tuple[Path, Target], tmp_path: Path
) -> None:
    plan = copied(backed_up, tmp_path)
    old = aged(plan, "old", 50, launch=LAUNCH)

    def kept() -> set[bool]:
        return {
            one.verdict == "keep" for one in plan_pruning(plan, datetime.now(UTC)).decisions if one.snapshot_id == old
        }

    with Ledger(plan.state / "launches" / LAUNCH / "ledger.jsonl") as ledger:
        ledger.append("run", "run:1", {"run": 1})
        ledger.append("end", "end:1", {"run": 1, "status": "launched", "reason": ""})
        assert kept() == {True}
        ledger.append("run", "run:2", {"run": 2})
        assert kept() == {True}, "while it is under way it may still turn round"
        ledger.append("end", "end:2", {"run": 2, "status": "rolled back", "reason": ""})
    assert kept() == {False}, "the plan file has gone on to the next launch, and nobody can retire this one"
