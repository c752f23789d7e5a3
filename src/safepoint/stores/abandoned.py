"""What was left in a store of snapshots that are not complete: uploads that nobody goes on with, removals cut short."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from safepoint.stores.files import Files

AFTER: Final = timedelta(days=2)
_NEVER: Final = datetime.min.replace(tzinfo=UTC) + AFTER
_STAMPED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}T\d{6}Z")


@dataclass(frozen=True)
class Abandoned:
    """What was left of a snapshot in a store, last written at `touched`; it went, unless it is `locked_until` then."""

    snapshot_id: str
    touched: datetime
    locked_until: datetime | None


def give_up(files: Files, complete: Collection[str]) -> tuple[Abandoned, ...]:
    """Remove folders without a manifest or label into which nothing was written for two days; what went, and what stays
    as the store locks it.

    Only what is called as a snapshot is: others may use the store, too. Age is counted up to the newest file of a
    complete snapshot, so that no clock makes anything old.

    Args:
        complete: the snapshots that stay.
    """
    left = [name for name in files.folders() if _STAMPED.fullmatch(name) and name not in complete]
    if not left:
        return ()
    newest = max((files.touched(name) or _NEVER for name in complete), default=_NEVER)
    before = min(datetime.now(UTC), newest) - AFTER
    return tuple(one for name in left if (one := _give_up(files, name, before)) is not None)


def _give_up(files: Files, folder: str, before: datetime) -> Abandoned | None:
    touched = files.touched(folder)
    if touched is None or touched >= before:
        return None
    now = datetime.now(UTC)
    locks = [files.locked_until(f"{folder}/{name}") for name in files.names(folder)]
    if until := max((lock for lock in locks if lock is not None and lock > now), default=None):
        return Abandoned(folder, touched, until)  # deleting it would only hide it
    files.remove(folder)
    return Abandoned(folder, touched, None)
