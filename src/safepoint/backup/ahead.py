"""Hashing big tables while their restore still builds indexes and checks keys, so that a proof waits for less.

Once a table's data is in, what a restore does to it (indexes, keys, triggers) changes no row. At the end of a restore,
where the statements about the biggest table have to follow each other, processors are idle: parts of tables are hashed
there, never more at a time than `pg_restore` leaves of its jobs.

Why this proves as much as hashing afterwards: that nothing changed a row is not believed but asked. The server counts
the rows that were inserted, updated and deleted in each table, in transactions that failed as well. What was hashed
ahead counts only if, after the restore, nothing was ever updated or deleted in that table, and as many rows were
inserted as were hashed: then those are the rows that stand there. Any other table is hashed again
(`contents.hash_tables`), be it that a function changed rows, or that the server does not count.

Locks: one table at a time, for one part, waited for so briefly that no deadlock is ever looked for. What `pg_restore`
wants to lock meanwhile waits for that part. Tables without their primary key go first: while it is made nobody else can
read them, and the others, which are seldom locked any more, are what is left to do then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from safepoint.backup.contents import OPTIONS, Hashed, Part, Sums, hash_query, list_parts
from safepoint.backup.prints import Fingerprint
from safepoint.errors import SafepointError
from safepoint.postgres.connections import Connection, cancel, connect
from safepoint.postgres.target import Target

# Smaller tables are hashed in no time afterwards, and looking for their moment would cost more.
_ROWS = 100_000
_TABLES = 50
_SESSIONS = 8
_SESSION = "safepoint ahead"
_LOCK_TIMEOUT = 0.01
_LOOK_SECONDS = 0.1
_GONE_SECONDS = 2.0

# Parallel workers of an index build are not jobs. A session that waits for a lock will go on at any moment.
_WORKING = f"""
    select count(*) from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and state = 'active'
      and application_name <> '{_SESSION}'
"""
_OTHERS = """
    select count(*) from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""
_KEYED = """
    select format('%%I.%%I', n.nspname, c.relname)
    from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where i.indisprimary and format('%%I.%%I', n.nspname, c.relname) = any (%s)
"""
_ONLY_INSERTED = """
    select format('%%I.%%I', n.nspname, c.relname), pg_stat_get_tuples_inserted(c.oid)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and format('%%I.%%I', n.nspname, c.relname) = any (%s)
      and pg_stat_get_tuples_updated(c.oid) = 0 and pg_stat_get_tuples_deleted(c.oid) = 0
"""


@contextmanager
def hashing_ahead(target: Target, expected: Fingerprint, *, jobs: int) -> Iterator[Ahead]:
    """Hash tables of the database that is being restored, as long as this lasts; `Ahead.finish` has what came of it.

    Args:
        target: a superuser's login to it, on a server where nobody else works.
        expected: tells which tables are big, and the format.
        jobs: those of `pg_restore`.
    """
    ahead = Ahead(target, expected, jobs)
    try:
        yield ahead
    finally:
        ahead.stop()


class Ahead:
    """Sessions that hash parts of tables in slots that are free. Whatever goes wrong in them is left for afterwards."""

    def __init__(self, target: Target, expected: Fingerprint, jobs: int) -> None:
        by_size = sorted(expected.tables.items(), key=lambda table: table[1].rows, reverse=True)
        self._names = [name for name, table in by_size[:_TABLES] if table.rows >= _ROWS]
        self._target = target
        self._version = expected.format
        self._jobs = jobs
        self._parts: dict[str, list[Part]] = {}
        self._sums: dict[Part, Sums] = {}
        self._locked: dict[str, float] = {}
        self._at_work: set[Connection] = set()
        self._lock = threading.Lock()
        self._enough = threading.Event()
        sessions = min(jobs - 1, _SESSIONS) if self._names else 0
        self._threads = [threading.Thread(target=self._run, name=_SESSION, daemon=True) for _ in range(sessions)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> Hashed:
        """What was hashed, once the restore is done and its sessions have told the server what they counted."""
        self._join()
        if not self._sums:
            return Hashed()
        try:
            with connect(self._target, application_name=_SESSION) as connection:
                until = time.monotonic() + _GONE_SECONDS
                while connection.execute(_OTHERS).fetchone() != (0,) and time.monotonic() < until:
                    time.sleep(0.01)
                inserted = connection.execute(_ONLY_INSERTED, [self._names]).fetchall()
        except (psycopg.Error, SafepointError):
            return Hashed()
        return Hashed(self._sums, dict(inserted))

    def stop(self) -> None:
        """End what is under way."""
        self._enough.set()
        with self._lock:
            for connection in self._at_work:
                cancel(connection)
        self._join()

    def _join(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with (
            suppress(psycopg.Error, SafepointError),
            connect(self._target, application_name=_SESSION, lock_timeout=_LOCK_TIMEOUT, options=OPTIONS) as connection,
        ):
            while not self._enough.wait(_LOOK_SECONDS):
                while (part := self._claim(connection)) is not None:
                    self._hash(connection, part)

    def _claim(self, connection: Connection) -> Part | None:
        """The next part, where there is a slot for it."""
        with self._lock:
            if self._enough.is_set():
                return None
            row = connection.execute(_WORKING.encode()).fetchone()
            if row is None or row[0] + len(self._at_work) >= self._jobs:
                return None
            keyed = {name for (name,) in connection.execute(_KEYED, [self._names])}
            now = time.monotonic()
            for name in sorted(self._names, key=keyed.__contains__):
                parts = self._of(connection, name) if self._locked.get(name, 0) <= now else None
                if parts:
                    self._at_work.add(connection)
                    return parts.pop()
            return None

    def _of(self, connection: Connection, name: str) -> list[Part]:
        """The parts of a table that are still to be hashed; none as long as it is empty, or locked."""
        if name not in self._parts:
            try:
                found = list_parts(connection, name, version=self._version)
            except psycopg.errors.LockNotAvailable:
                return []
            if [part.pages for part in found] == [1]:
                return []
            self._parts[name] = found
        return self._parts[name]

    def _hash(self, connection: Connection, part: Part) -> None:
        sums: Sums | None = None
        try:
            with suppress(psycopg.errors.LockNotAvailable):
                sums = connection.execute(hash_query(part, version=self._version)).fetchone()
        finally:
            with self._lock:
                self._at_work.discard(connection)
                if sums is None:
                    self._parts[part.name].insert(0, part)
                    self._locked[part.name] = time.monotonic() + _LOOK_SECONDS
                else:
                    self._sums[part] = sums
