"""The content of tables and large objects, hashed inside PostgreSQL so that no row travels.

How rows are hashed stands in `postgres.rows`. Up to format 1 of the fingerprint each row was cast to text and that
hashed twice, which took twice as long or more; snapshots of that time are compared in the same way still.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Final

import psycopg
from psycopg import sql

from safepoint.backup.hindrances import GRANT, ended, special
from safepoint.backup.prints import FORMAT, TablePrint
from safepoint.backup.standing import STANDING, Standing
from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import Connection, cancel, connect
from safepoint.postgres.rows import COLUMNS, Ordering, RowColumn, as_they_are, content, hash_rows
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report

SEEDS = (0, 0x53414645)
# A table bigger than this is hashed in parts of this many pages, so that all jobs have work to the end.
_PART_PAGES = 4096

# Text of values must not depend on who reads them (see `connections` for the rest); reg* types print a schema.
# Compilation and parallel workers would take processors from the dump that runs at the same time.
OPTIONS = (
    "-c search_path=pg_catalog -c lc_monetary=C -c row_security=off -c jit=off -c max_parallel_workers_per_gather=0"
)

# Seconds. As with pg_dump: behind somebody's exclusive lock we wait, but not for ever.
LOCK_TIMEOUT = 60.0
_SAVEPOINT = "safepoint_reading"

# A dump that locks it later finds it empty, too (https://www.postgresql.org/docs/current/mvcc-caveats.html), and then
# both are equal. A table that was packed (VACUUM FULL, CLUSTER) is in another file as well, but has its rows.
_EMPTIED = "somebody emptied or rewrote it (TRUNCATE, ALTER TABLE) after the snapshot's instant, whose rows are gone"
_RENAMED = (
    "it, or a column of it, was renamed or dropped after the snapshot's instant, and something else has that name"
)
_LATER = "Take it again, when nobody does that."

# Everything whose rows a dump carries: tables, partitions' leaves, configuration tables of extensions (with the
# condition that the extension gives). Materialised views are computed anew by a restore, foreign tables are elsewhere,
# temporary tables are somebody's own. What a virtual column would be says its definition (PostgreSQL 18; no dump reads
# it, and reading it may fail); up to format 2 it was hashed.
_STORED = "and a.attgenerated <> 'v'"
_TABLES = f"""
    select n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), coalesce(pg_relation_size(c.oid), 0) / 8192,
           coalesce(x.condition, ''), ({COLUMNS.format(relation="c.oid")} {{stored}}),
           c.reltoastrelid <> 0 and pg_relation_size(c.reltoastrelid) > 0, {STANDING}
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    left join lateral (
        select e.extcondition[array_position(e.extconfig, c.oid)] as condition
        from pg_extension e where e.oid = d.refobjid and c.oid = any (e.extconfig)
    ) x on true
    where c.relkind = 'r' and c.relpersistence <> 't'
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
      and (d.objid is null or x.condition is not null)
"""

# Format 1. The alias must not be the name of a column: `alias::text` would then be that column. OFFSET 0 keeps the
# planner from casting the row to text twice. hashtextextended wants a deterministic collation.
_HASH_TEXT = """
    select count(*), coalesce(sum(hashtextextended(line, {seed_1})), 0),
           coalesce(sum(hashtextextended(line, {seed_2})), 0)
    from (select safepoint_whole_row::text collate "C" as line
          from only {table} as safepoint_whole_row {condition} offset 0) as lines
"""

# A large object's pages may have holes, and ends of zeros that a dump writes out: pages are compared without them,
# together with the object's length, owner and grants. pg_largeobject is for superusers (and pg_read_all_data) only.
_LARGE_OBJECTS = f"""
    with lines as (
        select format('%s %s %s', loid, pageno, encode(rtrim(data, '\\x00'::bytea), 'hex')) as line, false as object
        from pg_largeobject where rtrim(data, '\\x00'::bytea) <> ''::bytea
        union all
        select format('%s %s %s %s', m.oid, pg_get_userbyid(m.lomowner),
                      (select max(pageno::bigint * 2048 + length(data)) from pg_largeobject where loid = m.oid),
                      (select string_agg(format('%s=%s', a.grantee::regrole, a.privilege_type), ','
                                         order by a.grantee::regrole::text, a.privilege_type)
                       from aclexplode(m.lomacl) a where a.grantee <> m.lomowner)), true
        from pg_largeobject_metadata m
    )
    select count(*) filter (where object), coalesce(sum(hashtextextended(line collate "C", {SEEDS[0]})), 0),
           coalesce(sum(hashtextextended(line collate "C", {SEEDS[1]})), 0)
    from lines
"""


@dataclass(frozen=True)
class Part:
    """A range of a table's pages to hash: from `first` up to, not including, `end` (None: to the table's end).

    `wide`: it has values that are stored outside of their rows. Without `columns` (None) rows are only counted. `then`:
    which table it was at the snapshot; None: it does not matter.
    """

    schema: str
    table: str
    name: str
    pages: int
    columns: tuple[RowColumn, ...] | None = ()
    condition: str = ""
    wide: bool = False
    first: int | None = None
    end: int | None = None
    then: Standing | None = field(default=None, compare=False)


Sums = tuple[int, int, int]
"""A part's rows, and the two sums of their hashes."""


@dataclass(frozen=True)
class Hashed:
    """Parts that were hashed beforehand, and how many rows came into their tables, of which none changed or went."""

    sums: Mapping[Part, Sums] = field(default_factory=dict)
    inserted: Mapping[str, int] = field(default_factory=dict)

    def of(self, part: Part) -> Sums | None:
        """What a part was hashed to; None where it was not, or its table's rows did not stay as they came."""
        return self.sums.get(part) if part.name in self.inserted else None


NOTHING: Final = Hashed()


def parts(whole: Part) -> list[Part]:
    """Cut a table into parts. A condition (of an extension's table) forbids cutting. Pure."""
    if whole.pages <= _PART_PAGES or whole.condition:
        return [replace(whole, pages=max(1, whole.pages))]
    starts = list(range(0, whole.pages, _PART_PAGES))
    return [
        replace(whole, pages=_PART_PAGES, first=start, end=None if start == starts[-1] else start + _PART_PAGES)
        for start in starts
    ]


def hash_query(part: Part, *, version: int = FORMAT) -> sql.Composed:
    """The query that hashes one part, as fingerprints of that format have it. Pure."""
    condition: sql.Composable = sql.SQL("")
    if part.condition:
        condition = sql.SQL(part.condition)  # the extension's own "WHERE ..."
    elif part.first is not None:
        bounds = [sql.SQL("ctid >= {}").format(_tid(part.first))]
        if part.end is not None:
            bounds.append(sql.SQL("ctid < {}").format(_tid(part.end)))
        condition = sql.SQL("where ") + sql.SQL(" and ").join(bounds)
    table = sql.Identifier(part.schema, part.table)
    if version == 1:
        return sql.SQL(_HASH_TEXT).format(
            seed_1=sql.Literal(SEEDS[0]), seed_2=sql.Literal(SEEDS[1]), table=table, condition=condition
        )
    if part.columns is None:
        return sql.SQL("select count(*), 0, 0 from only {} as safepoint_row {}").format(table, condition)
    return hash_rows(table, part.columns, condition=condition, wide=part.wide)


def combine(sums: Sequence[Sums]) -> TablePrint:
    """Add up the counts and hash sums of a table's parts. Pure."""
    rows = sum(count for count, _, _ in sums)
    return TablePrint(rows, content(sum(int(one) for _, one, _ in sums), sum(int(two) for _, _, two in sums)))


@contextmanager
def reading(target: Target, snapshot: str | None = None) -> Iterator[Connection]:
    """A connection inside a read-only transaction at an exported snapshot (None: at one of its own)."""
    connection = connect(target, application_name="safepoint fingerprint", lock_timeout=LOCK_TIMEOUT, options=OPTIONS)
    with connection:
        connection.execute("begin isolation level repeatable read read only")
        if snapshot is not None:
            connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
        yield connection


@contextmanager
def unlocking(connection: Connection) -> Iterator[None]:
    """What is locked inside is unlocked at its end, and not only at the end of the transaction.

    Otherwise ten thousand tables take more locks than an ordinary server has room for, and more than pg_dump takes.
    """
    connection.execute(f"savepoint {_SAVEPOINT}".encode())
    yield
    connection.execute(f"rollback to savepoint {_SAVEPOINT}; release savepoint {_SAVEPOINT}".encode())


def hash_tables(
    target: Target,
    connection: Connection,
    snapshot: str,
    *,
    jobs: int,
    report: Report,
    cancelled: Cancelled,
    version: int = FORMAT,
    ordering: Ordering = as_they_are,
    hashed: Hashed = NOTHING,
) -> dict[str, TablePrint]:
    """Hash all tables over `jobs` connections that share a snapshot. `connection` is inside it already.

    A table whose rows are only counted has an empty content. The first format knows no other ordering.

    Args:
        hashed: parts that need no hashing any more, while each row that came into their tables is in these sums.

    Raises:
        DatabaseError: a table cannot be read, or was dropped or emptied meanwhile.
        Interrupted: `cancelled` became true.
    """
    pieces = list_parts(connection, version=version, ordering=as_they_are if version == 1 else ordering)
    counted = {piece.name for piece in pieces if piece.columns is None}
    beforehand = [(piece, sums) for piece in pieces if (sums := hashed.of(piece)) is not None]
    left = set(pieces).difference(piece for piece, _ in beforehand)
    work = _Work(report, cancelled, version)
    for piece, sums in beforehand:
        work.add(piece, sums)
    work.run(target, snapshot, left, jobs)
    # Rows were hashed before they were all there (or the server counts them otherwise).
    doubtful = {
        piece.name
        for piece, _ in beforehand
        if sum(rows for rows, _, _ in work.sums[piece.name]) != hashed.inserted[piece.name]
    }
    # Rows of a table that was packed between two of its parts stand in other pages: it is hashed at once.
    packed = {name for name, files in work.files.items() if len(files) > 1}
    for name in doubtful | packed:
        del work.sums[name]
    again = {replace(piece, first=None, end=None) for piece in pieces if piece.name in packed}
    work.run(target, snapshot, again.union(piece for piece in pieces if piece.name in doubtful - packed), jobs)
    found = {name: combine(sums) for name, sums in sorted(work.sums.items())}
    for piece in left:
        if found[piece.name].rows == 0 and piece.then is not None and work.files[piece.name] != {piece.then.file}:
            raise _unreadable(piece, _EMPTIED, _LATER)
    return {name: replace(one, content="") if name in counted else one for name, one in found.items()}


def list_parts(
    connection: Connection, name: str | None = None, *, version: int = FORMAT, ordering: Ordering = as_they_are
) -> list[Part]:
    """The parts of all tables whose rows a dump carries, or of one table, by its name as SQL writes it.

    Args:
        version: the format of the fingerprint: it says which columns are hashed.
    """
    only = sql.SQL("and format('%I.%I', n.nspname, c.relname) = {}").format(sql.Literal(name))
    tables = sql.SQL(_TABLES).format(stored=sql.SQL(_STORED if version > 2 else ""))
    query = tables + (sql.SQL("") if name is None else only)
    return [
        piece
        for schema, table, found, pages, condition, facts, wide, *then in connection.execute(query)
        for columns in [ordering(found, tuple(RowColumn(*column) for column in facts))]
        for piece in parts(Part(schema, table, found, pages, columns, condition, wide, then=Standing(*then)))
    ]


def hash_large_objects(connection: Connection) -> TablePrint:
    """All large objects as one: how many, and a hash over their content, owners and grants."""
    row = connection.execute("select exists (select from pg_largeobject_metadata)").fetchone()
    if row == (False,):
        return TablePrint(0, "0" * 32)
    try:
        sums = connection.execute(_LARGE_OBJECTS).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise DatabaseError(
            "The login may not read large objects, so they cannot be fingerprinted.",
            subject="pg_largeobject",
            remedy="Let database.user be a superuser, or grant it SELECT on pg_largeobject.",
        ) from None
    return combine(sums)


class _Work:
    """What the connections share: the parts to do, the sums so far, and how to stop the ones that are busy."""

    def __init__(self, report: Report, cancelled: Cancelled, version: int) -> None:
        self.sums: dict[str, list[Sums]] = {}
        self.files: dict[str, set[int | None]] = {}
        self._queue: SimpleQueue[Part] = SimpleQueue()
        self._total = 0
        self._done = 0
        self._report = report
        self._cancelled = cancelled
        self._version = version
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._busy: set[Connection] = set()

    def run(self, target: Target, snapshot: str, pieces: Collection[Part], jobs: int) -> None:
        """Hash these parts, the biggest ones first."""
        for piece in sorted(pieces, key=lambda piece: piece.pages, reverse=True):
            self._queue.put(piece)
            self._total += piece.pages
        with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="fingerprint") as pool:
            futures = [pool.submit(self.drain, target, snapshot) for _ in range(min(jobs, len(pieces)))]
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_EXCEPTION)
                if self._cancelled() or any(future.exception() for future in done):
                    self.stop()
            for future in futures:
                future.result()
        if self._cancelled():
            raise Interrupted("The fingerprint was ended by an order.", subject=str(target))

    def add(self, part: Part, sums: Sums) -> None:
        """Take down what a part was hashed to."""
        with self._lock:
            self.sums.setdefault(part.name, []).append(sums)

    def drain(self, target: Target, snapshot: str) -> None:
        """Hash parts until none is left."""
        with reading(target, snapshot) as connection:
            connection.execute(f"savepoint {_SAVEPOINT}".encode())
            with self._lock:
                self._busy.add(connection)
            try:
                while not self._stopped.is_set() and not self._cancelled():
                    self._one(connection, self._queue.get_nowait())
            except Empty:
                return
            finally:
                with self._lock:
                    self._busy.discard(connection)

    def stop(self) -> None:
        """Cancel what the other connections are doing."""
        self._stopped.set()
        with self._lock:
            for connection in self._busy:
                cancel(connection)

    def _one(self, connection: Connection, part: Part) -> None:
        try:
            # The table is unlocked by the same message (see `unlocking`).
            query = sql.SQL("{}; {}; rollback to savepoint {}").format(
                hash_query(part, version=self._version),
                sql.SQL("select") if part.then is None else part.then.now(),
                sql.Identifier(_SAVEPOINT),
            )
            found = connection.execute(query)
            row = found.fetchone()
            found.nextset()
            now = found.fetchone()
        except psycopg.errors.LockNotAvailable:
            raise _unreadable(part, f"somebody held an exclusive lock on it for {LOCK_TIMEOUT:.0f} s") from None
        except psycopg.errors.QueryCanceled:
            if self._stopped.is_set() or self._cancelled():
                return
            raise _unreadable(part, "the query was cancelled by somebody") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise _unreadable(part, str(error), GRANT) from None
        except psycopg.Error as error:
            raise _unreadable(part, str(error)) from None
        if part.then is not None and now is not None and not part.then.is_called(part.name, now[1]):
            raise _unreadable(part, _RENAMED, _LATER)
        self.add(part, row or (0, 0, 0))
        with self._lock:
            if now:
                self.files.setdefault(part.name, set()).add(now[0])
            self._done += part.pages
            self._report(Progress("fingerprint", self._done * 8192, self._total * 8192, "bytes"))


def _tid(page: int) -> sql.Composed:
    return sql.SQL("{}::tid").format(sql.Literal(f"({page},0)"))


def _unreadable(part: Part, said: str, remedy: str = "Was it dropped meanwhile? Take it again.") -> DatabaseError:
    return DatabaseError(
        f"Table {part.name} cannot be fingerprinted: {' '.join(said.split())}",
        subject=part.name,
        remedy=special(said) or ended(said) or remedy,
    )
