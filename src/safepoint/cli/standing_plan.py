"""The plan file for commands of a launch that was begun; what they go by where it cannot be used is said first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safepoint.cli.saying import echo

if TYPE_CHECKING:
    from safepoint.config import PlanFile


def standing_plan(path: Path) -> PlanFile:
    """See `load_standing`.

    Raises:
        PlanFileError: the plan file cannot be used, and no launch of it stands.
    """
    from safepoint.launch.last_read import load_standing

    plan_file = load_standing(path)
    if plan_file.fault:
        echo(f"safepoint: {path.name} CANNOT BE USED as it is now: {plan_file.fault}.", err=True)
    return plan_file
