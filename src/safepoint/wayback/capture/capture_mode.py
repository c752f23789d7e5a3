"""Which capture a launch gets: the log decoded, triggers, or none; by what the plan file asks for and what can be."""

from __future__ import annotations

from typing import Literal

from safepoint.postgres.connections import Connection
from safepoint.wayback.capture import triggers
from safepoint.wayback.capture.promises import RIGHTS, Mode

How = Literal["auto", "logical", "triggers"]
"""What the plan file asks for."""


def choose(how: How, reason: str | None) -> Mode:
    """Which capture is used, by what the plan asks for and why the log cannot be decoded (None: it can). Pure."""
    if how == "triggers" or (how == "auto" and reason is not None):
        return "triggers"
    return "logical" if reason is None else "none"


def foresee(connection: Connection, how: How) -> tuple[Mode, str | None]:
    """Which capture `capture.arm` would use here, and why not the log where it is another one. Nothing is changed."""
    _, may_replicate = connection.execute(RIGHTS).fetchone() or (False, False)
    return settled(connection, how, why_not_decoded(connection, how, may_replicate))


def why_not_decoded(connection: Connection, how: How, may_replicate: bool) -> str | None:
    """Why the log is not decoded for a launch that asks for `how`; None where it is."""
    if how == "triggers":
        return "the plan file says so"
    return cannot_decode(connection, may_replicate=may_replicate)


def cannot_decode(connection: Connection, *, may_replicate: bool) -> str | None:
    """Why this server or this login cannot decode; None where it can."""
    row = connection.execute("SHOW wal_level").fetchone()
    level = row[0] if row else None
    if level != "logical":
        return f"wal_level is {level}; it must be logical, which takes a restart of the server"
    if not may_replicate:
        return "the conductor's role has not the REPLICATION attribute"
    return None


def settled(connection: Connection, how: How, reason: str | None) -> tuple[Mode, str | None]:
    """Which capture it is where `reason` speaks against the log, and why no better one: triggers can be barred, too."""
    mode = choose(how, reason)
    if mode == "triggers" and (why := triggers.cannot(connection)) is not None:
        return "none", f"{reason}; no triggers either: {why}"
    return mode, reason
