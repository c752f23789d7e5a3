"""The feed of a twin that is kept level before the window: a publication, a slot, and a snapshot at one instant.

A slot made over a replication connection exports the snapshot of its consistent point: what is dumped through it and
what the slot gives from then on are, together, every row exactly once. (`CREATE_REPLICATION_SLOT`, PostgreSQL's page on
the streaming replication protocol.) The snapshot lives until that connection does the next thing, or ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection, cancel, connect
from safepoint.postgres.raised_identities import look_again
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import CaptureFacts
from safepoint.wayback.capture.capture_mode import cannot_decode
from safepoint.wayback.capture.promises import RIGHTS
from safepoint.wayback.capture.publication import publication, publish, unpublish
from safepoint.wayback.capture.slot import drop_slot, look_up_slot
from safepoint.wayback.names import feed_name
from safepoint.wayback.sessions import asking

_PURPOSE: Final = "twin"
_WAIT: Final = 20.0
_XMAX: Final = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8"
# The catalogue's rows of a column (its system columns too), of a row type and of a schema are as old as what they are
# of, or as its last ALTER; TRUNCATE, VACUUM and ANALYZE leave them alone, and so does a replica identity. An age may be
# negative where two billion transactions have passed.
_CHANGED: Final = """
SELECT n.nspname || '.' || c.relname
FROM (SELECT age(xmin) AS began FROM pg_publication WHERE pubname = %s) f
CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = c.reltype
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'safepoint') AND n.nspname NOT LIKE 'pg\\_%%'
  AND n.nspname NOT LIKE 'safepoint\\_%%'
  AND (age(n.xmin) BETWEEN 0 AND began - 1 OR age(t.xmin) BETWEEN 0 AND began - 1
       OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND age(a.xmin) BETWEEN 0 AND began - 1))
ORDER BY 1
"""


@dataclass(frozen=True)
class Instant:
    """One instant of a database: everything that committed before `lsn`, seen through the snapshot of that name."""

    lsn: str
    snapshot: str


@contextmanager
def opened(target: Target, launch_id: str, *, timeout: float = _WAIT) -> Iterator[Instant]:
    """Make the feed anew, and give the instant that it begins at; what is left of an earlier try is removed first.

    The slot stays when this ends, the snapshot does not.

    Args:
        timeout: seconds to wait for transactions that are open in the cluster, which a slot's making has to.

    Raises:
        DatabaseError: the server cannot decode, has no slot or sender left, or transactions stay open.
        Refused: a publication of this name is someone else's.
    """
    name = feed_name(launch_id)
    # Setting a replica identity locks its table for an instant, and the application is at work.
    with (
        _connected(target, lock_timeout=5) as connection,
        asking("Beginning the twin's feed", target.dbname, at=connection),
    ):
        superuser, may_replicate = connection.execute(RIGHTS).fetchone() or (False, False)
        reason = cannot_decode(connection, may_replicate=may_replicate)
        if reason is not None:
            raise DatabaseError(f"The twin cannot be kept level: {reason}.", subject=target.dbname)
        drop_slot(connection, name)
        unpublish(connection, launch_id, name, _PURPOSE)  # tables may have come since
        publish(connection, launch_id, name, _PURPOSE, superuser=superuser)
    with _instant(target, name, "", timeout) as found:
        with _connected(target) as connection:
            look_again(connection, name)  # the slot has waited for all that was under way
        yield found


@contextmanager
def instant(target: Target, launch_id: str) -> Iterator[Instant]:
    """An instant to compare two databases at; its slot is a temporary one and is gone afterwards."""
    with _instant(target, f"{feed_name(launch_id)}_now"[:63], "TEMPORARY ", _WAIT) as found:
        yield found


def standing(target: Target, launch_id: str, start_lsn: str) -> CaptureFacts | None:
    """The feed as it stands on the server, for `capture.drain`; None where its slot or publication is gone.

    Args:
        start_lsn: the instant that it began at, which the twin's mark tells.
    """
    name = feed_name(launch_id)
    with _connected(target) as connection, asking("Looking at the twin's feed", name):
        slot = look_up_slot(connection, name)
        state = publication(connection, launch_id, name, _PURPOSE)
        if slot is None or not slot.here or state is None:
            return None
        row = connection.execute(_XMAX).fetchone()
    return CaptureFacts(
        launch_id,
        target.dbname,
        "logical",
        None,
        name,
        name,
        start_lsn,
        int(row[0]) if row else 0,
        bool(state["all_tables"]),
        purpose="twin",
    )


def changed(connection: Connection, launch_id: str) -> list[str]:
    """Tables that were made, altered or renamed since the feed began. The stream has nothing of what that does to rows,
    and where all has the names and the definitions that it had, no comparison of these tells of it."""
    return [str(row[0]) for row in connection.execute(_CHANGED, [feed_name(launch_id)]).fetchall()]


def begins_at(target: Target, launch_id: str) -> str | None:
    """Where the slot begins to give changes from; None where there is none."""
    with _connected(target) as connection, asking("Looking at the twin's feed", target.dbname):
        slot = look_up_slot(connection, feed_name(launch_id))
        return None if slot is None or not slot.here or slot.wal_status == "lost" else slot.confirmed_lsn


def end(target: Target, launch_id: str) -> bool:
    """Remove slot and publication; gives whether there was a slot. May be run again at any time."""
    name = feed_name(launch_id)
    with _connected(target, lock_timeout=5) as connection, asking("Ending the twin's feed", name, at=connection):
        found = look_up_slot(connection, name)
        drop_slot(connection, name)
        unpublish(connection, launch_id, name, _PURPOSE)
        return found is not None and found.here


def forget_publication(connection: Connection, launch_id: str) -> None:
    """Remove the publication that came into the twin with the snapshot, inside the caller's transaction."""
    unpublish(connection, launch_id, feed_name(launch_id), _PURPOSE, copy=True)


def spool_path(folder: Path, start_lsn: str) -> Path:
    """The spool of a feed: each beginning has one of its own."""
    return folder / f"twin-{start_lsn.replace('/', '-')}.spool"


@contextmanager
def _instant(target: Target, name: str, kind: str, timeout: float) -> Iterator[Instant]:
    with connect(target, application_name="safepoint feed", replication=True) as connection:
        words = "EXPORT_SNAPSHOT" if connection.info.server_version < 150000 else "(SNAPSHOT 'export')"
        command = sql.SQL(f"CREATE_REPLICATION_SLOT {{}} {kind}LOGICAL pgoutput {words}").format(sql.Identifier(name))
        patience = threading.Timer(timeout, lambda: cancel(connection))
        patience.start()
        try:
            row: Any = connection.execute(command).fetchone()
        except psycopg.errors.QueryCanceled:
            raise DatabaseError(
                "The twin's slot could not be made: transactions are open in the cluster.",
                subject=name,
                expected=f"all transactions that were open to end within {timeout:g} s",
                remedy="See pg_stat_activity (they may be in another database) and pg_prepared_xacts.",
            ) from None
        except psycopg.Error as error:
            raise DatabaseError(
                f"The twin's slot could not be made: {error.diag.message_primary or error}", subject=name
            ) from error
        finally:
            patience.cancel()
        yield Instant(str(row[1]), str(row[2]))


def _connected(target: Target, lock_timeout: float | None = None) -> Connection:
    return connect(target, application_name="safepoint feed", lock_timeout=lock_timeout)
