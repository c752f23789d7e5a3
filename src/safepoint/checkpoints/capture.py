"""The checkpoint of the capture: how much log the server keeps for it, and how near it is to losing some. Pure."""

from __future__ import annotations

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.config import format_bytes, format_duration

_HEADROOM = 0.2
"""Of what the server may keep at most, this share must be left: past the end the way back is not whole any more."""


def judge(
    *,
    transactions: int,
    retained: int,
    limit: int,
    status: str,
    safe: int | None,
    idle_timeout: float | None,
    every: float,
    follower: str | None = None,
) -> Checkpoint:
    """Judge a look at the capture.

    Args:
        transactions: spooled since the launch.
        retained: bytes of write-ahead log that the server keeps for the slot; `limit`: how many it may keep.
        status: `wal_status` of `pg_replication_slots`.
        safe: how many more bytes may come before the slot is in danger (`safe_wal_size`); None: nothing limits it.
        idle_timeout: seconds after which the server gives an unread slot up (PostgreSQL 18); None: never.
        every: seconds between two looks.
        follower: why the twin is no longer followed live, where that is so.
    """
    alarms = []
    if status in ("unreserved", "lost"):
        alarms.append(f"the server may remove log that was not read yet (wal_status {status})")
    if retained > limit:
        alarms.append(f"{format_bytes(retained)} of WAL are kept for it, {format_bytes(limit)} are allowed")
    if safe is not None and safe < _HEADROOM * (safe + retained):
        alarms.append(f"only {format_bytes(max(0, safe))} are left of max_slot_wal_keep_size")
    if idle_timeout is not None and idle_timeout < 2 * every:
        shown = format_duration(idle_timeout)
        alarms.append(f"idle_replication_slot_timeout is {shown}, and it is read every {format_duration(every)}")
    detail = (
        f"{transactions} transactions spooled since the launch, {format_bytes(retained)} of WAL kept for it"
        if not alarms
        else "; ".join(alarms)
    )
    if follower is not None:
        detail += f"; the twin is not followed any more ({follower}): a rollback carries the rest at once"
    most = limit if safe is None else min(limit, retained + safe)
    return Checkpoint(
        "capture", "Capture", "fail" if alarms else "pass", value=retained, limit=most, unit="bytes", detail=detail
    )
