"""How long each step will take, as far as earlier launches and the plan file itself know it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile
from safepoint.launch.ledger import Entry, LedgerBroken, read
from safepoint.launch.rehearsal.rehearsals import newest_rehearsal
from safepoint.launch.whose import is_of


def estimates(plan_file: PlanFile) -> dict[str, float]:
    """Seconds by step id. A step of which nothing is known is not in it.

    What `launched` says; what the newest rehearsal of the new release foresees for its migrations wins over that. Where
    no launch is known, a step that the rehearsal carried out on its copy took as long as it did there.
    """
    known = {**rehearsed(plan_file), **launched(plan_file)}
    foreseen = _foreseen(plan_file)
    if foreseen is not None:
        known["migrate"] = float(foreseen["migrate"]["expected"])
    return known


def launched(plan_file: PlanFile) -> dict[str, float]:
    """Seconds by step id, as launches took them: the application's newest in which a step ended well says it. The
    plan file itself (the canary's and the watch's time) wins over that."""
    known: dict[str, float] = {}
    for ledger in sorted(plan_file.state.glob("launches/*/ledger.jsonl"), key=_written):
        try:
            entries = list(read(ledger))
        except LedgerBroken:
            continue  # a broken ledger is told about by `status` and `report`; it says nothing about times
        if is_of(plan_file.launch.application, entries):
            known.update(measured(entries))
    known["canary"] = plan_file.canary.hold.total_seconds()
    known["settle"] = 0.0  # it fills what is left until the watch
    known["watch"] = plan_file.watch.duration.total_seconds()
    return known


def rehearsed(plan_file: PlanFile) -> dict[str, float]:
    """Seconds by step id of the steps of which only the newest rehearsal knows how long they take."""
    foreseen = _foreseen(plan_file) or {}
    known = launched(plan_file)
    return {step: float(foreseen["fixed"][step]) for step in foreseen.get("rehearsed", ()) if step not in known}


def spans(plan_file: PlanFile) -> dict[str, tuple[float, float]]:
    """The least and the most seconds, by step id, where more than an estimate is known: of the migrations, from the
    newest rehearsal."""
    foreseen = _foreseen(plan_file)
    if foreseen is None:
        return {}
    return {"migrate": (float(foreseen["migrate"]["low"]), float(foreseen["migrate"]["high"]))}


def _foreseen(plan_file: PlanFile) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (newest_rehearsal(plan_file) or {}).get("forecast")
    return found


def measured(entries: Iterable[Entry]) -> dict[str, float]:
    """Seconds that each step of a launch took. Pure."""
    return {
        entry.step: float(entry.data["seconds"])
        for entry in entries
        if entry.kind == "step.done" and entry.step is not None and not entry.data["already"]
    }


def _written(path: Path) -> float:
    return path.stat().st_mtime
