"""Whether the server's log is still the one that a spool was read from, once a standby has taken the server's place.

A standby with a copy of the capture's slot goes on where that copy stands, on a timeline of its own. What it had not
received when it was promoted is gone there, and its places in the log are given to other transactions, which would
pass for those that the spool has.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.pgoutput import parse_lsn
from safepoint.postgres.target import Target

CURRENT: Final = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
"""The timeline that the server writes now, as SQL: as its log's files have it, eight hexadecimal digits."""

# Who went off where, the oldest first: timeline, LSN, reason (src/backend/access/transam/timeline.c).
_LINE: Final = re.compile(r"^\s*(\d+)\s+([0-9A-Fa-f]+/[0-9A-Fa-f]+)", re.MULTILINE)


def current_timeline(connection: Connection) -> str:
    """The one that the server writes now, see `CURRENT`."""
    row = connection.execute(f"SELECT {CURRENT}".encode()).fetchone()
    return "" if row is None else str(row[0])


def has_all(target: Target, now: str, then: str, commit_lsn: int) -> bool:
    """Whether the log of timeline `now` has what was committed at an LSN of timeline `then`.

    Args:
        target: a login with REPLICATION: it may read a timeline's history by that protocol, and not as a file.
    """
    if now == then:
        return True
    with connect(target, application_name="safepoint timeline", replication=True) as connection:
        try:
            # The replication protocol takes no parameters.
            row = connection.execute(f"TIMELINE_HISTORY {int(now, 16)}".encode()).fetchone()
        except psycopg.errors.UndefinedFile:  # it is nobody's descendant
            return False
    return row is not None and left_behind(row[1], int(then, 16)) > commit_lsn


def left_behind(history: bytes | str, timeline: int) -> int:
    """The LSN up to which a history's log is that of an older timeline; 0 where it does not descend from it. Pure."""
    text = history if isinstance(history, str) else history.decode("ascii", "replace")
    return next((parse_lsn(lsn) for number, lsn in _LINE.findall(text) if int(number) == timeline), 0)
