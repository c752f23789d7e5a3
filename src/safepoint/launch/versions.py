"""A launch that another version of Safepoint began: said, and refused where this one does not know its record.

A launch ends with the version that it began with. What must not happen is that another one finds out half-way: it
would have closed the site, and could neither go on nor carry what it cannot read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safepoint import __version__
from safepoint.errors import Refused
from safepoint.launch.ledger import Entry

FORMAT: Final = 3
"""Of what a launch records. It changes when entries, facts or files change so that another version cannot go on."""


def began(entries: Sequence[Entry]) -> str | None:
    """The version that began the launch; None where it has not begun."""
    said = next((entry.data.get("safepoint") for entry in entries if entry.kind == "launch"), None)
    return None if said is None else str(said)


def refuse_newer(entries: Sequence[Entry]) -> None:
    """A ledger whose shape this version may not even read.

    Raises:
        Refused: a newer version began it.
    """
    begun = next((entry.data for entry in entries if entry.kind == "launch"), {})
    if int(begun.get("format", FORMAT)) > FORMAT:
        raise _refusal(entries, str(begun["format"]), str(FORMAT))


def refuse_other(folder: Path, entries: Sequence[Entry]) -> None:
    """Before anything is conducted.

    Args:
        folder: the launch's.

    Raises:
        Refused: what it recorded, or captured, is of another version.
    """
    from safepoint.wayback.capture.spool import of_another_version  # `status` does without

    begun = next((entry.data for entry in entries if entry.kind == "launch"), {})
    if (found := int(begun.get("format", FORMAT))) != FORMAT:
        raise _refusal(entries, str(found), str(FORMAT))
    for path in sorted(folder.glob("*spool")):
        if (other := of_another_version(path)) is not None:
            raise _refusal(entries, f"{path.name} of format {other[0]}", other[1])


def refuse_course(entries: Sequence[Entry], found: str | None, expected: str) -> None:
    """Before a run is gone on with: its turns must be those that this version knows.

    Args:
        found: the version of its course; None where none was begun.

    Raises:
        Refused: they are not.
    """
    if found not in (None, expected):
        raise _refusal(entries, str(found), expected)


def _refusal(entries: Sequence[Entry], found: str, expected: str) -> Refused:
    launch = next((str(entry.data["plan"]["launch_id"]) for entry in entries if entry.kind == "launch"), "the launch")
    version = began(entries)
    known = "" if version is None else f" ({version}, as its ledger says)"
    return Refused(
        f"Another version of Safepoint began {launch}, and this one ({__version__}) cannot go on with it.",
        subject=launch,
        expected=expected,
        found=found,
        remedy=f"Install the version that began it{known}, and give the command again with that one: it goes on, "
        "aborts and rolls back. Nothing was changed.",
    )


def note(entries: Sequence[Entry]) -> str:
    """What is recorded where another version goes on with a launch; empty where it is the one that began it."""
    version = began(entries)
    return "" if version in (None, __version__) else f", by Safepoint {__version__}; {version} began the launch"
