"""Standbys that stream from the server: what reads there is not reached by a fence, nor by a rollback's swap.

A rename ends no session on a standby. One that was connected to the live database before the swap goes on reading
the migrated one under its new name, for as long as it lasts: of a connection pooler an hour and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.capture.slot import FAILS_OVER

# Senders of the log itself are in no database. What only keeps it (pg_receivewal, a base backup) serves nobody.
STANDBYS: Final = """
SELECT DISTINCT coalesce(nullif(a.application_name, ''), host(a.client_addr), 'without a name')
FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid)
WHERE a.datname IS NULL AND a.application_name NOT IN ('pg_receivewal', 'pg_basebackup') ORDER BY 1
"""


def standbys(connection: Connection) -> list[str]:
    """By what they call themselves. Any database of the server will do."""
    return [str(row[0]) for row in connection.execute(STANDBYS).fetchall()]


def left_reading(names: Sequence[str]) -> str:
    """What has to be done there after a swap, as the end of a line; empty where there are none. Pure."""
    if not names:
        return ""
    some = ", ".join(names[:3])
    return (
        f"; what was connected on a standby ({some}) reads the migrated database until it connects anew: end these "
        "sessions there, or have their pooler do so (PgBouncer: RECONNECT)"
    )


def after_failover(connection: Connection) -> str:
    """What becomes of a capture of the log when one of them takes the server's place (see `slot.MAKE_FAILING_OVER`)."""
    if connection.info.server_version < FAILS_OVER:
        return "After a failover to one of them a capture of the log is lost; one by triggers comes along."
    row = connection.execute("SELECT current_setting('synchronized_standby_slots')").fetchone()
    if row is not None and row[0]:
        return (
            "After a failover to one of them a capture of the log is lost, for synchronized_standby_slots would let a "
            "rollback wait for a standby that is away; one by triggers comes along."
        )
    return "After a failover a capture of the log goes on where that standby has sync_replication_slots = on."
