"""What was left in a store of snapshots that are not complete: uploads that nobody goes on with, removals cut short."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from safepoint.stores.files import Files
from safepoint.stores.places import are_a_snapshots

AFTER: Final = timedelta(days=2)
_STAMPED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}T\d{6}Z")


@dataclass(frozen=True)
class Abandoned:
    """What was left of a snapshot in a store, last written at `touched`; it went, unless it is `locked_until` then."""

    snapshot_id: str
    touched: datetime
    locked_until: datetime | None


def long_ago(files: Files, complete: Collection[str]) -> datetime | None:
    """Before when something must have been written last to be left by everybody; None where nothing tells.

    Age is counted up to the newest file of a complete snapshot, so that no clock makes anything old.

    Args:
        complete: the snapshots that stay.
    """
    newest = max((at for name in complete if (at := files.touched(name)) is not None), default=None)
    return None if newest is None else min(datetime.now(UTC), newest) - AFTER


def give_up(files: Files, complete: Collection[str], before: datetime) -> tuple[Abandoned, ...]:
    """Remove folders without a manifest or label into which nothing was written since then; what went, and what stays
    as the store locks it.

    Only what is called as a snapshot is, and has a snapshot's files alone: others may use the store, too, and name
    their folders by the time as well.

    Args:
        complete: the snapshots that stay.
    """
    left = [name for name in files.folders() if _STAMPED.fullmatch(name) and name not in complete]
    return tuple(one for name in left if (one := _give_up(files, name, before)) is not None)


def _give_up(files: Files, folder: str, before: datetime) -> Abandoned | None:
    touched = files.touched(folder)
    if touched is None or touched >= before:
        return None
    if not are_a_snapshots(names := files.names(folder)):
        return None
    now = datetime.now(UTC)
    locks = [files.locked_until(f"{folder}/{name}") for name in names]
    if until := max((lock for lock in locks if lock is not None and lock > now), default=None):
        return Abandoned(folder, touched, until)  # deleting it would only hide it
    files.remove(folder)
    return Abandoned(folder, touched, None)
