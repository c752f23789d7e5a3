"""The backup that a rollback would lean on: its proof, its age, its size. Never good by its size alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from safepoint.checkpoints.checkpoint import Checkpoint, Verdict
from safepoint.config import format_bytes, format_duration

_TITLE = "Backup"


def backup(
    *,
    taken_at: datetime | None,
    size_bytes: int | None,
    proven: bool,
    now: datetime,
    max_age: timedelta,
    previous_bytes: int | None = None,
) -> Checkpoint:
    """Judge the newest snapshot. Pure.

    Args:
        taken_at: when it was taken, with its time zone; None when there is none.
        proven: whether it was restored and its fingerprint was equal.
        now: when its age counts: now, or when the site was closed.
        previous_bytes: the size of the snapshot before it, when there is one.

    A proof says more than any size, so a small proven snapshot passes; one that is less than half of the one
    before it is proven to equal its source, and a person should ask why the source became so small.
    """
    if taken_at is None or size_bytes is None:
        return Checkpoint(
            "backup", _TITLE, "fail", detail="there is no snapshot", remedy="Take one: `safepoint backup`."
        )
    age = (now - taken_at).total_seconds()
    limit = max_age.total_seconds()
    proof = "proven by a restore" if proven else "not proven"
    detail = f"{format_bytes(size_bytes)}, {format_duration(max(age, 0))} old, {proof}"

    def found(verdict: Verdict, remedy: str | None = None, more: str = "") -> Checkpoint:
        return Checkpoint(
            "backup",
            _TITLE,
            verdict,
            value=round(age, 1),
            limit=limit,
            unit="s",
            detail=detail + more,
            remedy=remedy,
        )

    if size_bytes <= 0:
        return found("fail", "Take a new one: `safepoint backup`.", more="; it is empty")
    if not proven:
        return found("fail", "Prove it: `safepoint verify`. An unproven backup is no backup.")
    if age < 0:
        return found(
            "inconclusive", "Which clock is wrong, this machine's or the one's that took it?", "; in the future"
        )
    if age > limit:
        return found("fail", "Take and prove a fresh one: `safepoint backup`.")
    if previous_bytes is not None and size_bytes * 2 < previous_bytes:
        return found(
            "inconclusive", "Find out what left the database.", f"; before it were {format_bytes(previous_bytes)}"
        )
    return found("pass")
