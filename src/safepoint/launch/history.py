"""The launches that a state folder has the ledgers of: the plan file's present one, and those before it."""

from __future__ import annotations

from pathlib import Path

from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.begin import entries_of
from safepoint.launch.ledger import Entry, read
from safepoint.launch.others import other_launch
from safepoint.launch.versions import refuse_newer


def launches(plan_file: PlanFile) -> tuple[str, ...]:
    """The ids of all launches that were begun with this state folder, the newest first."""
    found = (path for path in (plan_file.state / "launches").glob("*/ledger.jsonl") if path.stat().st_size)
    return tuple(path.parent.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True))


def ledger_of(plan_file: PlanFile, launch_id: str | None) -> tuple[Path, list[Entry]]:
    """The ledger of a launch, as a file and as its entries; of the plan file's present one where none is named.

    Raises:
        Refused: it has not begun; those that have are named.
        LedgerBroken: the file is not what was written.
    """
    wanted = launch_id or plan_file.launch_id
    path = plan_file.state / "launches" / wanted / "ledger.jsonl"
    if wanted == plan_file.launch_id:
        entries = entries_of(plan_file)
    else:
        entries = list(read(path)) if Path(wanted).name == wanted else []
        refuse_newer(entries)
    if entries:
        return path, entries
    other, known = other_launch(plan_file), tuple(one for one in launches(plan_file) if one != wanted)
    begin = "Begin it with `safepoint launch`." if launch_id is None else "Name one that has begun."
    begin = other.remedy(plan_file) if other and launch_id is None else begin
    others = f" The report of another one: `safepoint report --launch ID`, with {_some(known)}." if known else ""
    raise Refused(
        f"The launch {wanted} has not begun." + (f" Another one has: {other}." if other else ""),
        subject=wanted,
        remedy=begin + others,
    )


def _some(ids: tuple[str, ...], most: int = 5) -> str:
    """The newest of them."""
    return " or ".join(ids[:most]) + (f" (and {len(ids) - most} before)" if len(ids) > most else "")
