"""The sessions of others on a database: seen, and ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from safepoint.errors import DatabaseError, LockNotAvailable, ResourcesExhausted, ServerAway, StatementEnded
from safepoint.postgres.catalog import BACKEND_KIND
from safepoint.postgres.connections import OWN_NAMES, Connection, connect, was_lost
from safepoint.postgres.target import Target
from safepoint.wayback.holders import locking, shown

POLL_SECONDS: Final = 0.05
_LETTING_GO: Final = 5.0
_COME_BACK: Final = "Once it answers again, `safepoint retry`."
_CANCELLED: Final = "57014"
_FOR_ANOTHER: Final = "40"

# Everything that holds a database open and is not a part of the server itself: an autovacuum worker gives way by
# itself (CREATE DATABASE and RENAME send it away), a walsender is someone's replication and is never ended by us.
_OTHERS: Final = f"""datid = ANY(%s) AND pid <> pg_backend_pid() AND {BACKEND_KIND} NOT IN
      ('autovacuum worker', 'autovacuum launcher', 'walsender', 'parallel worker', 'server process')"""

# Where the beginning is hidden (no pg_read_all_stats), the session may well be one from before.
SESSIONS = f"""
SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(host(client_addr), 'local'),
       coalesce(state, {BACKEND_KIND}), {BACKEND_KIND}, coalesce(backend_start::text, '')
FROM pg_stat_activity
WHERE {_OTHERS} AND (%s::timestamptz IS NULL OR coalesce(backend_start < %s::timestamptz, true))
ORDER BY backend_start
"""

# A superuser's may be ended by superusers only, and PostgreSQL's refusal would keep us from ending all others.
_NOT_OURS: Final = """usesysid IN (SELECT oid FROM pg_roles WHERE rolsuper)
      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"""

END_SESSIONS = f"""
SELECT count(pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE {_OTHERS} AND NOT ({_NOT_OURS})
"""

STAYING = f"""
SELECT 'pid ' || pid::text || ' of ' || usename || coalesce(' (' || nullif(application_name, '') || ')', '')
FROM pg_stat_activity WHERE {_OTHERS} AND {_NOT_OURS} ORDER BY pid
"""

# A logical consumer on this database (Debezium, a subscription) would block the copy and the renames.
WALSENDERS = f"""
SELECT coalesce(application_name, '') || ' (pid ' || pid::text || ', role ' || coalesce(usename, '?') || ')'
FROM pg_stat_activity WHERE datid = ANY(%s) AND {BACKEND_KIND} = 'walsender' ORDER BY pid
"""

HOLDERS = """
SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()
AND l.classid = %s::int8::oid AND l.objid = %s::int8::oid AND l.objsubid = 2
"""

EXHAUSTED: Final = "53"
"""The class of PostgreSQL's errors that somebody can help by giving the server room, memory or connections."""

PREPARED = """
SELECT p.gid || ' (owner ' || p.owner || ', since ' || p.prepared::text || ')'
FROM pg_prepared_xacts p JOIN pg_database d ON d.datname = p.database
WHERE d.oid = ANY(%s) AND (%s::float8 IS NULL OR p.prepared <= clock_timestamp() - make_interval(secs => %s))
ORDER BY p.prepared
"""


@dataclass(frozen=True)
class Session:
    """One session of someone else."""

    pid: int
    role: str
    application: str
    address: str
    state: str
    kind: str
    started: str

    def __str__(self) -> str:
        name = f" {self.application!r}" if self.application else ""
        return f"pid {self.pid} of role {self.role!r}{name} from {self.address} ({self.state})"


def at_maintenance(target: Target, maintenance: str, *, lock_timeout: float | None = 5.0) -> Connection:
    """A connection beside the live database, so that the conductor itself does not keep it open."""
    login = target.on(maintenance)
    return connect(login, application_name="safepoint fence", lock_timeout=lock_timeout, options=OWN_NAMES)


@contextmanager
def asking(what: str, subject: str, remedy: str | None = None, *, at: Connection | None = None) -> Iterator[None]:
    """Turn PostgreSQL's refusals into errors that say what was being done.

    Args:
        at: where it is done: there it is asked who has the locks, where one was not had in time.

    Raises:
        LockNotAvailable: a lock was not had in time.
        ResourcesExhausted: the server's disk is full, or something else of it is used up.
        ServerAway: the connection was lost.
        StatementEnded: it was cancelled, or chosen to end a deadlock.
        DatabaseError: anything else that PostgreSQL said.
    """
    try:
        yield
    except psycopg.Error as error:
        kind, happened, helps = _refusal(error)
        said = _said(error)
        if kind is LockNotAvailable and at is not None and (holders := locking(at)):
            happened, said = f"{happened}; {holders[0]}", f"{said}. Locks of others: {shown(holders)}"
            helps = f"Let it end, or end it: {holders[0].ending}; then try again."
        raise kind(f"{what}: {happened}.", subject=subject, found=said, remedy=remedy or helps) from error


def _refusal(error: psycopg.Error) -> tuple[type[DatabaseError], str, str | None]:
    """What PostgreSQL's error is to whoever asked: its kind, what happened, and what helps against it. Pure."""
    code = error.sqlstate or ""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        helps = "Look in pg_stat_activity for who holds it, then try again."
        return LockNotAvailable, "a lock was not had in time", helps
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        helps = "Give the role of database.user the right that PostgreSQL names, or use a superuser."
        return DatabaseError, "the conductor's role may not do this", helps
    if was_lost(error):
        return ServerAway, "PostgreSQL went away", _COME_BACK
    if isinstance(error, psycopg.errors.OutOfMemory) and "max_locks_per_transaction" in _said(error):
        helps = "Raise max_locks_per_transaction on the server (a restart), then try again."
        return ResourcesExhausted, "the server has no room for more locks", helps
    if isinstance(error, psycopg.errors.DiskFull):
        return ResourcesExhausted, "the server's disk is full", "Make room on that disk, then try again."
    if code.startswith(EXHAUSTED):
        helps = "Make room there (disk, memory, connections), then try again."
        return ResourcesExhausted, "the server has no more to give", helps
    if code == _CANCELLED or code.startswith(_FOR_ANOTHER):
        helps = "Let it be (is there a job that cancels long queries?), then try again."
        return StatementEnded, "somebody ended the statement", helps
    return DatabaseError, "PostgreSQL refused", None


def _said(error: psycopg.Error) -> str:
    diagnosis = error.diag
    parts = [diagnosis.message_primary, diagnosis.message_detail, diagnosis.message_hint]
    return ". ".join(part.rstrip(".") for part in parts if part) or " ".join(str(error).split()) or type(error).__name__


def database_oid(connection: Connection, name: str) -> int | None:
    """The oid of a database; None when there is none of that name."""
    row = connection.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", (name,)).fetchone()
    return None if row is None else int(row[0])


def database_name(connection: Connection, oid: int) -> str | None:
    """The present name of a database; None when it is gone."""
    row = connection.execute("SELECT datname FROM pg_database WHERE oid = %s", (oid,)).fetchone()
    return None if row is None else str(row[0])


def sessions(connection: Connection, oids: Sequence[int], *, older_than: str | None = None) -> tuple[Session, ...]:
    """The sessions of others on these databases; with `older_than` (a time of the server) only those begun before."""
    rows = connection.execute(SESSIONS, (list(oids), older_than, older_than)).fetchall()
    return tuple(Session(*row) for row in rows)


def walsenders(connection: Connection, oids: Sequence[int]) -> tuple[str, ...]:
    """Logical replication connections that read these databases."""
    return tuple(str(row[0]) for row in connection.execute(WALSENDERS, (list(oids),)).fetchall())


def prepared(connection: Connection, oids: Sequence[int], *, older_than: float | None = None) -> tuple[str, ...]:
    """Transactions that were prepared for a two-phase commit and are neither committed nor rolled back; with
    `older_than` (seconds) only those that have been so for longer."""
    rows = connection.execute(PREPARED, (list(oids), older_than, older_than or 0)).fetchall()
    return tuple(str(row[0]) for row in rows)


def end_sessions(connection: Connection, oids: Sequence[int]) -> int:
    """Ask all sessions of others on these databases to end; gives how many there were."""
    row = connection.execute(END_SESSIONS, (list(oids),)).fetchone()
    return int(row[0]) if row else 0


def not_ours_to_end(connection: Connection, oids: Sequence[int]) -> tuple[str, ...]:
    """Sessions of superusers on these databases, where we are none: they hold them open, and we cannot end them."""
    return tuple(str(row[0]) for row in connection.execute(STAYING, (list(oids),)).fetchall())


@contextmanager
def keeping_out(
    target: Target, maintenance: str, oids: Sequence[int], *, each_poll: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """End every session on these databases again and again while the body runs.

    CREATE DATABASE ... TEMPLATE and ALTER DATABASE ... RENAME take a lock that holds new sessions back, then wait at
    most 5 s for those that are there to leave. So ending sessions from a second connection meanwhile is all they
    need, even if an application reconnects in a loop; and no state is left behind if this process is killed.
    """
    done = threading.Event()
    ended = threading.Event()
    connection = at_maintenance(target, maintenance)

    def loop() -> None:
        try:
            while not done.is_set():
                end_sessions(connection, oids)
                ended.set()
                each_poll()
                done.wait(POLL_SECONDS)
        except psycopg.Error:
            ended.set()  # the body's own statement then says who is connected

    thread = threading.Thread(target=loop, name="safepoint-keeping-out", daemon=True)
    try:
        thread.start()
        ended.wait(5)
        yield
    finally:
        done.set()
        thread.join(10)
        connection.close()


def end_holders(connection: Connection, lock: tuple[int, int]) -> None:
    """End the sessions that hold an advisory lock of ours in this database, where they do not let go of it in seconds.

    A way back has a closed site behind it and must not wait for who sleeps, or is no more: of a process whose machine
    or link went without a word the server may know nothing for hours. What such a session did is not committed. Where
    ending it is not allowed, whoever needs the lock is told that it was not had.
    """
    deadline = time.monotonic() + _LETTING_GO
    while holders := connection.execute(HOLDERS, lock).fetchall():
        if time.monotonic() >= deadline:
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) pid", [[row[0] for row in holders]]
                )
            return
        time.sleep(POLL_SECONDS)  # no event tells that another session let go; the deadline ends it
