"""The rehearsals that were made: where each stands, and the newest one of a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile

FORMAT = 1
NAME = "rehearsal.json"
PAGE = "rehearsal.html"


def rehearsal_folder(plan_file: PlanFile, snapshot_id: str) -> Path:
    """Where a rehearsal stands: beside its snapshot, or in a place of its own where that is only in a store."""
    beside = plan_file.state / "snapshots" / snapshot_id
    return beside if beside.is_dir() else plan_file.state / "rehearsals" / snapshot_id


def read_rehearsal(folder: Path) -> dict[str, Any] | None:
    """The rehearsal in a folder; None when there is none, or another version wrote it."""
    try:
        data: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return data if data.get("format") == FORMAT else None
    except (OSError, ValueError, AttributeError):
        return None


def newest_rehearsal(plan_file: PlanFile) -> dict[str, Any] | None:
    """The newest rehearsal of the release that is launched, whichever snapshot it was made with."""
    paths = [path for place in ("snapshots", "rehearsals") for path in (plan_file.state / place).glob(f"*/{NAME}")]
    found = [read_rehearsal(path.parent) for path in paths]
    ours = [one for one in found if one is not None and one["release"] == plan_file.releases.new.version]
    return max(ours, key=lambda one: str(one["made_at"]), default=None)
