"""How long each step will take, as far as earlier launches and the plan file itself know it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safepoint.config import PlanFile
from safepoint.launch.ledger import Entry, LedgerBroken, read
from safepoint.launch.rehearsals import newest_rehearsal


def estimates(plan_file: PlanFile) -> dict[str, float]:
    """Seconds by step id. A step of which nothing is known is not in it.

    The newest launch in the state folder in which a step ended well says how long it took; what a rehearsal of the new
    release foresees for its migrations, and the plan file itself (the canary's and the watch's time), win over that.
    """
    known: dict[str, float] = {}
    for ledger in sorted(plan_file.state.glob("launches/*/ledger.jsonl"), key=_written):
        try:
            known.update(measured(read(ledger)))
        except LedgerBroken:
            continue  # a broken ledger is told about by `status` and `report`; it says nothing about times
    foreseen = (newest_rehearsal(plan_file) or {}).get("forecast")
    if foreseen is not None:
        known["migrate"] = float(foreseen["migrate"]["expected"])
    known["canary"] = plan_file.canary.hold.total_seconds()
    known["watch"] = plan_file.watch.duration.total_seconds()
    return known


def spans(plan_file: PlanFile) -> dict[str, tuple[float, float]]:
    """The least and the most seconds, by step id, where more than an estimate is known: of the migrations, from the
    newest rehearsal."""
    foreseen = (newest_rehearsal(plan_file) or {}).get("forecast")
    if foreseen is None:
        return {}
    return {"migrate": (float(foreseen["migrate"]["low"]), float(foreseen["migrate"]["high"]))}


def measured(entries: Iterable[Entry]) -> dict[str, float]:
    """Seconds that each step of a launch took. Pure."""
    return {
        entry.step: float(entry.data["seconds"])
        for entry in entries
        if entry.kind == "step.done" and entry.step is not None and not entry.data["already"]
    }


def _written(path: Path) -> float:
    return path.stat().st_mtime
