"""What statements cost, as the server itself counts it (pg_stat_statements): calls, time, rows, log, temporary disk.

Looking from outside finds a statement that runs for long; it does not find one that is quick and runs a hundred
thousand times, and it cannot count rows. The scratch server is ours, so it is started with this library where its
installation has it. Its counters are read at the beginning and whenever a migration ended, and what came between is
that migration's (https://www.postgresql.org/docs/current/pgstatstatements.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg

from safepoint.errors import SafepointError
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.scratch_databases import shared
from safepoint.postgres.target import Target
from safepoint.rehearsal.statements import shown, writes
from safepoint.rehearsal.timeline import Applied

LIBRARY: Final = "pg_stat_statements"
SETTINGS: Final = {
    "shared_preload_libraries": LIBRARY,
    # What triggers and functions run is counted, too: the rows of a cascade are written by nobody's own statement.
    "pg_stat_statements.track": "all",
    "pg_stat_statements.max": "10000",
    "pg_stat_statements.save": "off",
}
UNCOUNTED: Final = "-c pg_stat_statements.track=none"
"""For a session whose own statements are not to be counted; a server without the library takes it, too."""
_MAINTENANCE: Final = "postgres"
_PAGE: Final = 8192

# `toplevel` came with 14; before, functions' own statements cannot be told from those that called them.
_COUNTS = """
    select queryid, {toplevel}, calls, total_exec_time / 1000, rows, wal_bytes::bigint, temp_blks_written
    from pg_stat_statements(false) where dbid = (select oid from pg_database where datname = %s) and queryid is not null
"""
_TEXTS = """
    select queryid, max(left(query, 2000)) from pg_stat_statements
    where dbid = (select oid from pg_database where datname = %s) and queryid is not null group by 1
"""

Key = tuple[int, bool]


@dataclass(frozen=True)
class Counts:
    """Of one statement: calls, seconds, rows that it gave or wrote, bytes of log and of temporary files."""

    calls: int = 0
    seconds: float = 0.0
    rows: int = 0
    wal_bytes: int = 0
    temporary_bytes: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(one + two for one, two in zip(self._all, other._all, strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(one - two for one, two in zip(self._all, other._all, strict=True)))

    @property
    def _all(self) -> tuple[Any, ...]:
        return self.calls, self.seconds, self.rows, self.wal_bytes, self.temporary_bytes


@dataclass(frozen=True)
class Share:
    """What came between two looks, by statement; `at` is when the later one was made."""

    at: float
    counts: Mapping[Key, Counts]


@dataclass(frozen=True)
class Counted:
    """All that was counted, and the texts of the statements."""

    shares: tuple[Share, ...]
    texts: Mapping[int, str]


@dataclass(frozen=True)
class Cost:
    """One statement of the run. `rows` are those it wrote (0 for one that reads); `migrations` those that ran it;
    `rewrites` and `indexes` the tables that it rewrote, and the indexes that it built."""

    text: str
    calls: int
    seconds: float
    rows: int
    wal_bytes: int
    temporary_bytes: int
    migrations: tuple[str, ...]
    rewrites: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in ("migrations", "rewrites", "indexes")}}


class Counter:
    """The server's counters for one database, read from another one, so that no lock is in the way."""

    def __init__(self, connection: Connection, database: str) -> None:
        self._connection = connection
        self._database = database
        self._known: dict[Key, Counts] = self._read()
        self._shares: list[Share] = []

    @classmethod
    def open(cls, target: Target) -> Counter | None:
        """None where the server does not count, or may not be asked."""
        connection = None
        try:
            connection = connect(target.on(_MAINTENANCE), application_name="safepoint rehearsal", lock_timeout=1)
            return cls(connection, target.dbname)
        except (psycopg.Error, SafepointError):
            if connection is not None:
                connection.close()
            return None

    def look(self, at: float) -> None:
        """Note what came since the last look."""
        now = self._read()
        fresh = {key: counts - self._known.get(key, Counts()) for key, counts in now.items()}
        self._known = now
        self._shares.append(Share(at, {key: counts for key, counts in fresh.items() if counts.calls > 0}))

    def counted(self) -> Counted:
        """All of it, with the texts; the session ends."""
        texts: dict[int, str] = dict(self._connection.execute(_TEXTS, [self._database]).fetchall())
        self._connection.close()
        return Counted(tuple(self._shares), texts)

    def _read(self) -> dict[Key, Counts]:
        toplevel = "toplevel" if self._connection.info.server_version >= 140000 else "true"
        rows = self._connection.execute(_COUNTS.format(toplevel=toplevel).encode(), [self._database]).fetchall()
        return {(row[0], row[1]): Counts(row[2], row[3], row[4], row[5], row[6] * _PAGE) for row in rows}


def make_counters(scratch: Target) -> bool:
    """Let a scratch server's counters be read, and begin with nothing; False where it does not count, or is not ours
    to be changed."""
    if shared(scratch):
        return False
    with connect(scratch.on(_MAINTENANCE)) as connection:
        loaded = connection.execute("show shared_preload_libraries").fetchone() or ("",)
        if LIBRARY not in loaded[0]:
            return False
        connection.execute(f"create extension if not exists {LIBRARY}")
        connection.execute("select pg_stat_statements_reset()")
    return True


def by_run(counted: Counted, runs: Sequence[Applied]) -> dict[str, Counts]:
    """What each migration cost; `rows` are those written. Pure.

    Several that ended between two looks are told as one: the longest of them gets it all.
    """
    found: dict[str, Counts] = {}
    for share, run in _shared(counted, runs):
        total = found.get(run.label if run is not None else "", Counts())
        for (query, top), counts in share.counts.items():
            wrote = counts.rows if writes(counted.texts.get(query, "")) else 0
            outer = counts if top else Counts()
            total += Counts(outer.calls, outer.seconds, wrote, outer.wal_bytes, outer.temporary_bytes)
        found[run.label if run is not None else ""] = total
    return found


def by_statement(counted: Counted, runs: Sequence[Applied]) -> tuple[Cost, ...]:
    """All statements as the application sent them, those first that took the longest in all. Pure."""
    totals: dict[int, Counts] = {}
    labels: dict[int, dict[str, None]] = {}
    for share, run in _shared(counted, runs):
        for (query, top), counts in share.counts.items():
            if top:
                totals[query] = totals.get(query, Counts()) + counts
                labels.setdefault(query, {})[run.label if run is not None else ""] = None
    longest = sorted(totals, key=lambda query: -totals[query].seconds)
    return tuple(_cost(counted.texts.get(query, ""), totals[query], labels[query]) for query in longest)


def _cost(text: str, counts: Counts, labels: Iterable[str]) -> Cost:
    rows = counts.rows if writes(text) else 0
    migrations = tuple(label for label in labels if label)
    seconds = round(counts.seconds, 4)
    return Cost(shown(text), counts.calls, seconds, rows, counts.wal_bytes, counts.temporary_bytes, migrations)


def _shared(counted: Counted, runs: Sequence[Applied]) -> Iterable[tuple[Share, Applied | None]]:
    """Each share with the migration that it is counted for; None for what came outside of all."""
    earlier = 0.0
    for share in counted.shares:
        ended = [run for run in runs if earlier < run.ended <= share.at]
        yield share, max(ended, key=lambda run: run.seconds, default=None)
        earlier = share.at
