"""Looking at a server from outside, many times a second, while somebody else works in it: locks, statements, sizes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.rehearsal.costs import UNCOUNTED, Counted, Counter
from safepoint.rehearsal.statements import shown

EVERY = 0.04
"""Seconds between two looks at the locks."""
_SIZE_EVERY = 0.5

# The strength of a lock as the number of the mode in PostgreSQL (src/include/storage/lockdefs.h).
MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
# What each mode keeps others from (https://www.postgresql.org/docs/current/explicit-locking.html).
_BLOCKS_WRITERS = MODES.index("ShareLock") + 1
_BLOCKS_READERS = MODES.index("AccessExclusiveLock") + 1

# The strongest lock on each table (not of the catalogue, whose ids are lower) that others hold in this database.
_LOCKS = """
    select relation, max(array_position(%s::text[], mode)) from pg_locks
    where locktype = 'relation' and granted and pid <> pg_backend_pid() and relation >= 16384
      and database = (select oid from pg_database where datname = current_database())
    group by relation
"""

_STATEMENTS = """
    select pid, extract(epoch from query_start)::float8, left(query, 2000) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state = 'active'
      and backend_type = 'client backend'
"""

# Neither query takes a lock that the migration could be in the way of.
_SIZE = "select pg_database_size(current_database()), (select coalesce(sum(size), 0)::bigint from pg_ls_tmpdir())"
_STORAGE = """
    select oid, relfilenode::bigint from pg_class
    where relkind in ('r', 'm', 'i') and oid >= 16384 and relfilenode <> 0
"""
_COUNTERS = """
    select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, temp_bytes, pg_database_size(datid)
    from pg_stat_database where datname = current_database()
"""
_RECORDS = """
    select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relname = 'django_migrations' and c.relkind = 'r'
"""
# A look comes a moment after a migration ended, and the next may have built its index by then. The transactions know:
# an index is as old as the record of the migration that made it, or a little older, and younger than the one before.
_MAKERS = """
    select i.oid, (select r.app || '.' || r.name from {records} r where age(r.xmin) <= age(i.xmin)
                   order by age(r.xmin) desc, r.id limit 1)
    from pg_class i where i.relkind = 'i' and i.oid >= 16384
"""
# The log's own files: with the live server's settings they grow here as they will there.
_LOG_SIZE = "select coalesce(sum(size), 0)::bigint from pg_ls_waldir()"

# What a statement costs while it runs: the log's position, and temporary files as they are at this moment.
_COSTS = """
    select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
           (select coalesce(sum(size), 0)::bigint from pg_ls_tmpdir())
"""


@dataclass(frozen=True)
class LockSpan:
    """A lock held on a table without a break. Times are seconds since the observation began.

    It was seen at `began` and still at `ended`; between two looks it may have been shorter by up to `EVERY`.
    """

    table: int
    strength: int
    began: float
    ended: float

    @property
    def mode(self) -> str:
        """PostgreSQL's name for it."""
        return MODES[self.strength - 1]

    @property
    def seconds(self) -> float:
        """For how long, at the least."""
        return round(self.ended - self.began, 3)

    @property
    def blocks(self) -> str:
        """Whom it keeps out: "readers and writers", "writers", or nobody ("")."""
        if self.strength >= _BLOCKS_READERS:
            return "readers and writers"
        return "writers" if self.strength >= _BLOCKS_WRITERS else ""


@dataclass(frozen=True)
class Statement:
    """A statement that ran long enough to be seen. Its values are left out: they may be anybody's data.

    `wal_bytes` is what the server wrote to its log meanwhile, and `temporary_bytes` the most that temporary files had
    at once; nobody else works in a scratch server, so both are the statement's, as exactly as it was looked at. `locks`
    are those that kept somebody out while it ran: `table`, `mode`, whom it `blocks`, and for how many `seconds` in all.
    """

    text: str
    began: float
    seconds: float
    wal_bytes: int = 0
    temporary_bytes: int = 0
    locks: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class Storage:
    """Which file each table and index is stored in, the log's position, temporary bytes and the size, at one moment."""

    at: float
    files: Mapping[int, int]
    wal: int
    temporary: int
    size: int = 0


@dataclass(frozen=True)
class Sampled:
    """All that was seen. `fault` says why the looking ended early.

    `peak_bytes` is by how much the database with its temporary files was bigger than at the beginning, at most, and
    `log_bytes` the same of the write-ahead log's files. `counted` is None where the server does not count statements.
    `seconds` is how long the looking itself kept the server at work, at the most. `makers`: by the indexes' oids the
    migrations that made them, as far as their transactions tell; of older ones it says nothing.
    """

    locks: tuple[LockSpan, ...]
    statements: tuple[Statement, ...]
    storages: tuple[Storage, ...]
    peak_bytes: int
    looks: int
    fault: str | None
    log_bytes: int = 0
    counted: Counted | None = None
    seconds: float = 0.0
    makers: Mapping[int, str] = field(default_factory=dict)


@dataclass
class _Running:
    """A statement while it is looked at. `wal` is where the log stood before, and where after the last look."""

    text: str
    first: float
    last: float
    wal: int
    end: int
    temporary: int = 0


@dataclass
class _Seen:
    """What is gathered while it goes on; one statement is known by its process and its begin. `stored` is the size of
    the database as it was looked at last, without temporary files."""

    ticks: list[tuple[float, dict[int, int]]] = field(default_factory=list)
    statements: dict[tuple[int, float], _Running] = field(default_factory=dict)
    running: list[_Running] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    base: int = 0
    stored: int = 0
    peak: int = 0
    log_base: int = 0
    log_peak: int = 0
    counted: Counted | None = None
    fault: str | None = None
    seconds: float = 0.0
    makers: dict[int, str] = field(default_factory=dict)


class Sampler:
    """Looks at a database from a thread of its own, from entering the context to leaving it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._seen = _Seen()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._marks = 0
        self._thread = threading.Thread(target=self._look, name="rehearsal-sampler", daemon=True)
        self._ready = threading.Event()
        self.began = 0.0

    def __enter__(self) -> Sampler:
        # Python looks for garbage when it likes, and among all that a program has loaded for a tenth of a second, in
        # which nothing would be seen: several migrations may run meanwhile.
        gc.collect()
        gc.freeze()
        self._thread.start()
        self._ready.wait(15)
        self.began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(15)
        gc.unfreeze()

    def mark(self) -> None:
        """Something ended: look at the storage and the counters at once. Never waits."""
        self._marks += 1
        self._wake.set()

    def sampled(self) -> Sampled:
        """What was seen, after leaving the context."""
        seen = self._seen
        statements = [
            Statement(
                shown(one.text),
                round(one.first - self.began, 3),
                round(one.last - one.first, 3),
                max(0, one.end - one.wal),
                one.temporary,
            )
            for one in seen.statements.values()
            if one.last > one.first
        ]
        return Sampled(
            spans([(at - self.began, locks) for at, locks in seen.ticks]),
            tuple(sorted(statements, key=lambda one: one.began)),
            tuple(seen.storages),
            max(0, seen.peak - seen.base),
            len(seen.ticks),
            seen.fault,
            max(0, seen.log_peak - seen.log_base),
            seen.counted,
            seen.seconds,
            seen.makers,
        )

    def _look(self) -> None:
        try:
            with connect(
                self._target, application_name="safepoint rehearsal", lock_timeout=1, options=UNCOUNTED
            ) as connection:
                seen, counter = self._seen, Counter.open(self._target)
                seen.base, seen.log_base = self._size(connection), self._log_size(connection)
                seen.storages.append(self._storage(connection))
                self._ready.set()
                self._loop(connection, counter)
                seen.storages.append(self._storage(connection))
                self._note_sizes(connection)
                seen.makers = _makers(connection)
                if counter is not None:
                    counter.look(time.monotonic() - self.began)
                    seen.counted = counter.counted()
        except Exception as error:  # told in the answer: the migration goes on unobserved
            self._seen.fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            self._ready.set()

    def _loop(self, connection: Connection, counter: Counter | None) -> None:
        marks, sized, wal = 0, 0.0, 0
        while not self._stop.is_set():
            self._wake.wait(EVERY)
            self._wake.clear()
            if self._marks > marks:
                marks = self._marks
                if counter is not None:  # first: the next migration has begun already
                    counter.look(time.monotonic() - self.began)
                self._timed(lambda: self._seen.storages.append(self._storage(connection)))
            now = time.monotonic()
            locks: dict[int, int] = dict(connection.execute(_LOCKS, [list(MODES)]).fetchall())
            self._seen.ticks.append((now, locks))
            wal = self._note_statements(connection, now, wal)
            if now - sized > _SIZE_EVERY:
                sized = now
                self._note_sizes(connection)
            self._seen.seconds += time.monotonic() - now

    def _timed(self, look: Callable[[], None]) -> None:
        began = time.monotonic()
        look()
        self._seen.seconds += time.monotonic() - began

    def _note_statements(self, connection: Connection, now: float, before: int) -> int:
        """What runs now, and what it has cost since the last look; gives where the log stands."""
        wal, temporary = connection.execute(_COSTS).fetchone() or (0, 0)
        self._seen.peak = max(self._seen.peak, self._seen.stored + temporary)  # a sort may be over in between
        for one in self._seen.running:
            one.end = wal  # it ran at the last look: what was written until now is its own, also if it has ended
        self._seen.running = []
        for pid, began, text in connection.execute(_STATEMENTS):
            one = self._seen.statements.setdefault((pid, began), _Running(text, now, now, before or wal, wal))
            one.last, one.end = now, wal
            one.temporary = max(one.temporary, temporary)
            self._seen.running.append(one)
        return int(wal)

    def _note_sizes(self, connection: Connection) -> None:
        self._seen.peak = max(self._seen.peak, self._size(connection))
        self._seen.log_peak = max(self._seen.log_peak, self._log_size(connection))

    def _log_size(self, connection: Connection) -> int:
        row = connection.execute(_LOG_SIZE).fetchone()
        return int(row[0]) if row else 0

    def _size(self, connection: Connection) -> int:
        stored, temporary = connection.execute(_SIZE).fetchone() or (0, 0)
        self._seen.stored = int(stored)
        return int(stored) + int(temporary)

    def _storage(self, connection: Connection) -> Storage:
        files: dict[int, int] = dict(connection.execute(_STORAGE).fetchall())
        wal, temporary, size = connection.execute(_COUNTERS).fetchone() or (0, 0, 0)
        return Storage(time.monotonic() - self.began if self.began else 0.0, files, wal, temporary, size)


def _makers(connection: Connection) -> dict[int, str]:
    """Nothing where each tenant's schema has records of its own: then it is left to the looks."""
    records = connection.execute(_RECORDS).fetchall()
    if len(records) != 1:
        return {}
    rows = connection.execute(_MAKERS.format(records=records[0][0]).encode()).fetchall()
    return {oid: label for oid, label in rows if label is not None}


def spans(ticks: Sequence[tuple[float, Mapping[int, int]]]) -> tuple[LockSpan, ...]:
    """Fold looks into spans: a lock seen in two looks that follow each other was held between them. Pure."""
    open_: dict[int, LockSpan] = {}
    done: list[LockSpan] = []
    for at, locks in ticks:
        for oid in [oid for oid, span in open_.items() if locks.get(oid) != span.strength]:
            done.append(open_.pop(oid))
        for oid, strength in locks.items():
            span = open_.get(oid)
            open_[oid] = LockSpan(oid, strength, at if span is None else span.began, at)
    return tuple(sorted([*done, *open_.values()], key=lambda span: (span.began, span.table)))
