"""The database's size and its connections, measured by query and judged by pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from safepoint.checkpoints.checkpoint import Checkpoint, timed
from safepoint.config import format_bytes
from safepoint.errors import DatabaseError
from safepoint.postgres.catalog import BACKEND_KIND
from safepoint.postgres.connections import Connection

SIZE = "select pg_database_size(%s)"

# Client sessions only: background workers do not count against max_connections (pg_stat_activity lists them too).
# The state is hidden (NULL) from roles that are neither superuser nor member of pg_read_all_stats.
CONNECTIONS = f"""
    select coalesce(state, case when pg_has_role(current_user, 'pg_read_all_stats', 'usage')
                                then 'starting' else 'hidden' end), count(*)
    from pg_stat_activity where {BACKEND_KIND} = 'client backend' group by 1 order by 1
"""
LIMITS = "select current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"

_SIZE_TITLE = "Database size"
_CONNECTIONS_TITLE = "Connections"


@dataclass(frozen=True)
class Connections:
    """Client sessions of the whole server by state, and how many there can be."""

    by_state: Mapping[str, int]
    maximum: int
    reserved: int

    @property
    def total(self) -> int:
        """All client sessions."""
        return sum(self.by_state.values())


def size(connection: Connection, *, baseline: int | None, growth: float) -> Checkpoint:
    """Measure and judge the size of the connection's database.

    Args:
        baseline: bytes, measured before; None makes the answer inconclusive.
        growth: the allowed growth as a share of the baseline.
    """
    return timed("size", _SIZE_TITLE, lambda: judge_size(measure_size(connection), baseline=baseline, growth=growth))


def measure_size(connection: Connection) -> int:
    """Bytes of the connection's database on disk.

    Raises:
        DatabaseError: it could not be asked.
    """
    try:
        row = connection.execute(SIZE, [connection.info.dbname]).fetchone()
    except psycopg.Error as error:
        raise _refused(error) from None
    return int(row[0]) if row else 0


def judge_size(value: int, *, baseline: int | None, growth: float) -> Checkpoint:
    """Grown beyond the limit fails; shrunk by as much is for a person to explain (something is missing?). Pure."""
    if not baseline:
        return Checkpoint(
            "size",
            _SIZE_TITLE,
            "inconclusive",
            value=value,
            unit="bytes",
            detail=f"{format_bytes(value)}, and no baseline to compare with",
            remedy="Measure the size before the launch (the survey step does).",
        )
    share = (value - baseline) / baseline
    limit = int(baseline * (1 + growth))
    detail = f"{format_bytes(value)}, {share:+.1%} against {format_bytes(baseline)}; up to +{growth:.0%} is expected"
    if value > limit:
        remedy = (
            "Look for tables that a migration rewrote (they need VACUUM) or that grow without end; where the release "
            "needs the room, expect it: checkpoints.size_growth."
        )
        return Checkpoint("size", _SIZE_TITLE, "fail", baseline, value, limit, "bytes", detail, remedy=remedy)
    if value < baseline * (1 - growth):
        remedy = "Is data missing? Compare row counts with the snapshot's fingerprint before going on."
        return Checkpoint("size", _SIZE_TITLE, "inconclusive", baseline, value, limit, "bytes", detail, remedy=remedy)
    return Checkpoint("size", _SIZE_TITLE, "pass", baseline, value, limit, "bytes", detail)


def connections(connection: Connection, *, share: float) -> Checkpoint:
    """Measure and judge the client sessions of the server.

    Args:
        share: how much of `max_connections` may be in use.
    """
    return timed(
        "connections",
        _CONNECTIONS_TITLE,
        lambda: judge_connections(measure_connections(connection), share=share),
    )


def measure_connections(connection: Connection) -> Connections:
    """Count the client sessions by state.

    Raises:
        DatabaseError: it could not be asked.
    """
    try:
        by_state = {str(state): int(count) for state, count in connection.execute(CONNECTIONS).fetchall()}
        limits = connection.execute(LIMITS).fetchone()
    except psycopg.Error as error:
        raise _refused(error) from None
    maximum, reserved = limits if limits else (0, 0)
    return Connections(by_state, int(maximum), int(reserved))


def judge_connections(found: Connections, *, share: float) -> Checkpoint:
    """More than the share of what the server admits fails. Pure."""
    limit = int(found.maximum * share)
    states = ", ".join(f"{count} {state}" for state, count in sorted(found.by_state.items()))
    usable = found.maximum - found.reserved
    detail = f"{found.total} of {found.maximum} ({states or 'none'}); {usable} are for ordinary roles"
    common: dict[str, Any] = {
        "value": found.total,
        "limit": limit,
        "unit": "connections",
        "detail": detail,
    }
    if found.total == 0:
        # Whoever asks is connected: none at all means that the view was not readable.
        return Checkpoint("connections", _CONNECTIONS_TITLE, "inconclusive", **common)
    if found.total > limit:
        remedy = "End idle sessions (see pg_stat_activity), lower the application's pool, or raise max_connections."
        return Checkpoint("connections", _CONNECTIONS_TITLE, "fail", remedy=remedy, **common)
    return Checkpoint("connections", _CONNECTIONS_TITLE, "pass", **common)


def _refused(error: psycopg.Error) -> DatabaseError:
    return DatabaseError(f"PostgreSQL refused: {' '.join(str(error).split())}", remedy="Is the server still there?")
