"""The capture's replication slot: made, looked at, removed; with a plain word when it is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from safepoint.errors import CaptureElsewhere, CaptureLost, DatabaseError, Refused
from safepoint.postgres.connections import Connection
from safepoint.wayback.holders import shown, writing
from safepoint.wayback.sessions import POLL_SECONDS

_FREE_SECONDS: Final = 10
MAKE_SECONDS: Final = 15.0
"""For how long the making of a slot waits for the transactions that are open in the cluster, which it has to."""

MAKE: Final = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')"
# From PostgreSQL 17 on standbys copy such a slot (where they have `sync_replication_slots`), and one of them that takes
# the server's place goes on with it. Where the server is to wait for standbys first, each read and each advance would
# wait for one that is away, a rollback's with the site closed: there the slot is one of this server alone.
FAILS_OVER: Final = 170000
MAKE_FAILING_OVER: Final = """
SELECT pg_create_logical_replication_slot(
    %s, 'pgoutput', failover => current_setting('synchronized_standby_slots') = '')
"""

REPLACED: Final = "a standby has taken the server's place that did not have all that is in the spool"

SLOT = """
SELECT database, plugin, coalesce(wal_status, 'lost'), safe_wal_size, active, active_pid, confirmed_flush_lsn::text,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8,
       coalesce(database = current_database(), false)
FROM pg_replication_slots WHERE slot_name = %s
"""
# The fence ends the sessions of the database itself, and refuses what is prepared in it.
STAYING = """
SELECT 'pid ' || pid::text || ' of ' || coalesce(usename, '?') || ' in ' || datname,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age
FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname <> current_database()
UNION ALL
SELECT 'the prepared transaction ' || gid || ' in ' || database,
       extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database <> current_database()
ORDER BY age DESC
"""


@dataclass(frozen=True)
class Slot:
    """A slot as `pg_replication_slots` has it; `retained_bytes` is the WAL that the server keeps for it.

    `here`: it is the connection's database's. Names are the server's: a launch of the same id on another database of
    it has slots of the same name, and PostgreSQL would drop them from here.
    """

    database: str
    plugin: str
    wal_status: str
    safe_bytes: int | None
    active: bool
    active_pid: int | None
    confirmed_lsn: str
    retained_bytes: int
    here: bool


def look_up_slot(connection: Connection, name: str) -> Slot | None:
    """A slot by its name; None when there is none."""
    row = connection.execute(SLOT, (name,)).fetchone()
    return None if row is None else Slot(*row)


def make_slot(connection: Connection, database: str, name: str, timeout: float) -> str | None:
    """Make the slot, or find it there; gives None, or why it cannot be had.

    Raises:
        Refused: the slot is there, and is not this capture's or is lost.
        DatabaseError: transactions that were open did not end within `timeout` seconds.
    """
    found = look_up_slot(connection, name)
    if found is not None:
        if (found.database, found.plugin) == (database, "pgoutput") and found.wal_status != "lost":
            return None
        raise Refused(
            f"There is a replication slot {name} that is not this capture's.",
            subject=name,
            expected=f"a slot of database {database} with pgoutput, not lost",
            found=f"database {found.database}, plugin {found.plugin}, {found.wal_status}",
            remedy=f"If nothing reads it any more: SELECT pg_drop_replication_slot('{name}'), then `safepoint retry`.",
        )
    try:
        with connection.transaction():
            # A transaction is waited for as a lock is: a shorter lock_timeout would end it before.
            connection.execute(f"SET LOCAL statement_timeout = {int(timeout * 1000)}; SET LOCAL lock_timeout = 0")
            make = MAKE_FAILING_OVER if connection.info.server_version >= FAILS_OVER else MAKE
            connection.execute(make.encode(), (name,))
    except psycopg.errors.QueryCanceled:
        found_open = writing(connection)
        oldest = f", the oldest by {found_open[0]}" if found_open else ""
        ending = found_open[0].ending if found_open else "SELECT pg_terminate_backend(PID)"
        raise DatabaseError(
            f"The capture's slot could not be made: transactions are open in the cluster{oldest}.",
            subject=name,
            expected=f"all transactions that were open to end within {timeout:g} s",
            found=shown(found_open) or "none that pg_stat_activity shows",
            remedy=f"End them ({ending}; they may be in another database); `safepoint status` says what is next.",
        ) from None
    except psycopg.errors.ConfigurationLimitExceeded as error:
        return f"all replication slots are in use ({error.diag.message_hint or 'raise max_replication_slots'})"
    return None


def staying_open(connection: Connection) -> list[tuple[str, float]]:
    """Writing transactions of other databases that have been open for longer than the making of a slot waits, each
    with its age in seconds, the oldest first."""
    found = connection.execute(STAYING).fetchall()
    return [(str(who), float(age)) for who, age in found if age is not None and age > MAKE_SECONDS]


def whole_slot(connection: Connection, name: str) -> Slot:
    """The slot, with everything that was not read yet.

    Raises:
        CaptureLost: it was dropped, or the server removed WAL that it had not been read from.
    """
    found = look_up_slot(connection, name)
    if found is None:
        raise lost(name, "its slot was dropped, or a standby has taken the server's place, which has no copy of it")
    if found.wal_status == "lost":
        raise lost(name, "the server removed WAL that was not read yet (max_slot_wal_keep_size or an idle timeout)")
    return found


def free_slot(connection: Connection, name: str, database: str) -> Slot:
    """Wait until the slot is whole and read by nobody else; gives it as it is then.

    Raises:
        CaptureLost: as `whole_slot`.
        Refused: it belongs to a database of another name now.
        DatabaseError: someone else keeps reading it.
    """
    deadline = time.monotonic() + _FREE_SECONDS
    while (found := whole_slot(connection, name)).active:
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"The slot {name} is read by someone else.",
                subject=name,
                found=f"pid {found.active_pid}",
                remedy="Is another conductor running? See `safepoint status`.",
            )
        time.sleep(POLL_SECONDS)
    if found.database != database:
        raise Refused(
            f"The capture is that of database {found.database}, not of {database}.",
            subject=name,
            expected=database,
            found=found.database,
            remedy=f"A slot moves with a renamed database: read it by way of {found.database}.",
        )
    return found


def drop_slot(connection: Connection, name: str) -> None:
    """Remove this database's slot; a reader of ours that a kill left behind is ended. May be run again at any time."""
    deadline = time.monotonic() + _FREE_SECONDS
    while (found := look_up_slot(connection, name)) is not None and found.here:
        if not found.active:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        elif time.monotonic() > deadline:
            raise DatabaseError(
                f"The slot {name} stays in use.",
                subject=name,
                found=f"pid {found.active_pid}",
                remedy="End that session, then try again.",
            )
        else:
            connection.execute("SELECT pg_terminate_backend(%s)", (found.active_pid,))
            time.sleep(POLL_SECONDS)


def lost(name: str, why: str) -> CaptureLost:
    """The error that says that the capture is not whole any more."""
    return CaptureLost(
        f"The capture is not complete any more: {why}.",
        subject=name,
        expected="every change since the launch",
        found="what is in the spool up to now",
        remedy="A rollback can still swap to the twin; rows that are not in the spool are listed, and not carried.",
    )


def read_elsewhere(path: Path, known: str, gone: str) -> CaptureElsewhere:
    """The error of a spool that is older than what the server was told to forget."""
    return CaptureElsewhere(
        "The capture was read into another spool than the one of this state folder, which is an older copy of it, or "
        "lacks it.",
        subject=str(path),
        expected=f"what was captured up to {gone}",
        found=f"what was captured up to {known}",
        remedy="Give the command on the machine where the launch was followed or conducted last; or bring `spool` and "
        f"`spool.pos` of its launch's folder to {path.parent}.",
    )
