"""What a conductor read of the plan file, kept in its launch's folder.

Where the plan file cannot be used (somebody saved half of an edit), commands of a launch that is under way, or can be
taken back, go by that: nobody takes the way back away with an editor. What begins something new does not.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from safepoint.config import PlanFile, load, parse, state_folders
from safepoint.errors import PlanFileError, SafepointError
from safepoint.launch.begin import status_of
from safepoint.launch.ledger import Entry, read
from safepoint.launch.storage import write_private

READ: Final = "plan-read.toml"
"""The file in a launch's folder that has the plan file as its conductor read it."""


def keep_read(plan_file: PlanFile, folder: Path) -> None:
    """Note what this conductor goes by.

    Args:
        folder: the launch's.

    Raises:
        OSError: it cannot be written.
    """
    if plan_file.text:
        write_private(folder / READ, plan_file.text)


def kept_of(plan_file: PlanFile, folder: Path) -> PlanFile | None:
    """What the conductor of this launch read last; None where nobody knows."""
    return _parsed(folder / READ, plan_file.path)


def load_standing(path: Path) -> PlanFile:
    """The plan file, for a command that only a launch takes which was begun.

    Where it cannot be used, this is what the conductor of its newest launch read, as long as that launch is under way,
    can be taken back, or is to be retired: `fault` says so then.

    Raises:
        PlanFileError: it cannot be used, and there is no such launch.
    """
    try:
        return load(path)
    except PlanFileError as error:
        found = _last_read(path)
        if found is None:
            raise
        faults = "; ".join(error.message.rstrip(".").splitlines())
        return found.plan_file.read_as(
            found.plan_file.text, f"{faults}. {found.launch_id} goes by what its conductor read {found}"
        )


def to_go_on(error: PlanFileError, path: Path) -> PlanFileError:
    """What refuses `safepoint launch`; where a launch stands, with what can be done all the same."""
    found = _last_read(path)
    if found is None:
        return error
    back = f"cp {shlex.quote(str(found.kept))} {shlex.quote(str(path))}"
    return PlanFileError(
        error.message,
        subject=error.subject,
        remedy=f"{error.remedy} To go on with {found.launch_id} by what its conductor read {found}: `{back}`, then "
        "`safepoint launch`. `safepoint status`, `safepoint abort` and `safepoint rollback` go by that as it is.",
    )


@dataclass(frozen=True)
class _LastRead:
    launch_id: str
    kept: Path
    plan_file: PlanFile

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.kept.stat().st_mtime, self.plan_file.launch.timezone)
        return f"at {at:%Y-%m-%d %H:%M} ({self.kept})"


def _last_read(path: Path) -> _LastRead | None:
    """Of the newest launch that this plan file began: an older one is not what an order is meant for."""
    here, found = str(path.resolve()), list[tuple[datetime, Path, list[Entry]]]()
    for state in state_folders(path):
        for ledger in (state / "launches").glob("*/ledger.jsonl"):
            try:
                entries = list(read(ledger))
            except (SafepointError, OSError):
                continue
            begun = next((entry for entry in entries if entry.kind == "launch"), None)
            if begun is not None and begun.data.get("from", here) == here:
                found.append((_newest_begin(entries), ledger, entries))
    if not found:
        return None
    _, ledger, entries = max(found, key=lambda one: one[0])
    plan_file = _parsed(ledger.with_name(READ), path)
    over = status_of(entries) not in (None, "launched", "rolled back") or any(e.kind == "retired" for e in entries)
    if over or plan_file is None or plan_file.launch_id != ledger.parent.name:
        return None
    return _LastRead(ledger.parent.name, ledger.with_name(READ), plan_file)


def _newest_begin(entries: list[Entry]) -> datetime:
    return next((entry for entry in reversed(entries) if entry.kind == "run"), entries[0]).when


def _parsed(kept: Path, path: Path) -> PlanFile | None:
    try:
        return parse(kept.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError, PlanFileError):  # of a former version, say; or the share is away
        return None
