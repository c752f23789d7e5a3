"""How fast two servers write and sync, and how much of a migration's time went there. The live server is only read.

*Write*: a query whose intermediate result does not fit into work_mem spills it into a temporary file, in a read-only
transaction; the same is done on both servers in turns. It is what a table's rewrite does: through the system's cache.

*Sync*: nothing that only reads makes a server sync its log. But a server can time its own syncs (track_wal_io_timing).
The scratch one is told to, for what the migration waited for; where the live one does, its average of many small
commits is held against small commits on the scratch one. Where it does not, that is said, and the range is wider.

*At work*: a migration's Python does not become slower with the server. A server counts for how long its sessions were
at work (pg_stat_database.active_time); only these seconds are corrected.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Final

import psycopg

from safepoint.config import format_bytes
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target

SETTINGS: Final = {"track_io_timing": "on", "track_wal_io_timing": "on"}
"""What lets a server (14 and newer) time what it writes and syncs."""

_RUNS: Final = 3
_LIMITS: Final = "-c default_transaction_read_only=on -c statement_timeout=1000 -c work_mem=1MB -c jit=off"
# 12 MB, written to a temporary file in pieces of 8 kB and read back once; little else is done.
_SPILL = """
    with wide as materialized (select n, repeat(md5(n::text), 250) as filler from generate_series(1, 1500) n)
    select count(filler) from wide
"""

# Seconds and number of syncs of the log, seconds of its writes, and of blocks written by this database's sessions.
# 18 tells them by kind of process: on a scratch server only what a session waited for is asked.
_IO_18 = """
    select (select coalesce(sum(fsync_time), 0) / 1000 from pg_stat_io where object = 'wal' and {kind}),
           (select coalesce(sum(fsyncs), 0)::bigint from pg_stat_io where object = 'wal' and {kind}),
           (select coalesce(sum(write_time), 0) / 1000 from pg_stat_io where object = 'wal' and {kind}),
           {database}
"""
_IO_14 = """
    select wal_sync_time / 1000, wal_sync::bigint, wal_write_time / 1000, {database}
    from pg_stat_wal
"""
_DATABASE: Final = """
    (select coalesce(blk_write_time, 0) / 1000 from pg_stat_database where datname = current_database()),
    (select coalesce(active_time, 0) / 1000 from pg_stat_database where datname = current_database())
"""
_COMMIT: Final = "select pg_logical_emit_message(true, 'safepoint', '')"
_COMMITS: Final = 20
_NOTHING: Final = 50e-6
_ENOUGH_SYNCS: Final = 500
"""So many syncs make an average of a live server; a young one's is that of its own start."""
_UNKNOWN_SYNC: Final = 10.0
_UNKNOWN_RATE: Final = 40 * 1024**2
"""What is not known of a live server's disk is allowed for: syncs that take so many times as long, and so few bytes of
log in a second. A cheap disk in a network is like that."""
_BOUNDS: Final = (0.25, 20.0)


@dataclass(frozen=True)
class Io:
    """A server's counters at a moment: seconds that it synced its log, how often, seconds that it wrote, and seconds
    for which sessions of the database were at work; None where that is not known."""

    sync_seconds: float
    syncs: int
    write_seconds: float
    active_seconds: float | None = None

    def since(self, earlier: Io) -> Io:
        """What came between."""
        return Io(
            max(0.0, self.sync_seconds - earlier.sync_seconds),
            max(0, self.syncs - earlier.syncs),
            max(0.0, self.write_seconds - earlier.write_seconds),
            None
            if self.active_seconds is None or earlier.active_seconds is None
            else max(0.0, self.active_seconds - earlier.active_seconds),
        )

    @property
    def each(self) -> float | None:
        """Seconds of one sync; None where there were too few to say."""
        return self.sync_seconds / self.syncs if self.syncs >= _ENOUGH_SYNCS and self.sync_seconds > 0 else None


@dataclass(frozen=True)
class Parts:
    """Seconds of the migrations, which add up to all of theirs: the application's own, the server's for everything
    else, for writing, and for syncing its log."""

    client: float
    rest: float
    write: float
    sync: float


@dataclass(frozen=True)
class Speeds:
    """What is known of both servers. `spills` are seconds of the same spill; `own` is what the migration did.

    `live_sync` and `scratch_sync` are seconds of one sync; None where the server does not time them.
    """

    live_spills: tuple[float, ...] = ()
    scratch_spills: tuple[float, ...] = ()
    own: Io | None = None
    live_sync: float | None = None
    scratch_sync: float | None = None

    @property
    def write(self) -> float | None:
        """How much longer the live server takes to write."""
        if not self.live_spills or not self.scratch_spills:
            return None
        return _bounded(median(self.live_spills) / max(median(self.scratch_spills), 1e-6))

    @property
    def sync(self) -> float | None:
        """How many times as long a small sync takes on the live server."""
        if self.live_sync is None or self.scratch_sync is None:
            return None
        return _bounded(self.live_sync / max(self.scratch_sync, 1e-6))

    def parts(self, inside: float) -> Parts:
        """Of what the migrations' seconds were made."""
        if self.own is None:
            return Parts(0.0, inside, 0.0, 0.0)
        # A sync that a session waits for is in the time that it was at work.
        active = self.own.active_seconds
        server = inside if active is None else min(inside, max(active, self.own.sync_seconds))
        sync = min(server, self.own.sync_seconds)
        write = min(server - sync, self.own.write_seconds)
        return Parts(inside - server, server - sync - write, write, sync)

    def synced(self, inside: float) -> float | None:
        """Seconds that the live server takes for the syncs: each takes longer by what a small one does. None where that
        is not known."""
        if self.own is None or self.live_sync is None or self.scratch_sync is None:
            return None
        here = self.parts(inside).sync
        count = self.own.syncs * here / self.own.sync_seconds if self.own.sync_seconds else 0.0
        return max(0.0, here + count * (self.live_sync - self.scratch_sync))

    def most_synced(self, inside: float, log: int) -> float:
        """Seconds that it may take at the most. A small sync does not tell how fast a disk takes `log` bytes."""
        known = self.synced(inside)
        if known is None:
            known = self.parts(inside).sync * _UNKNOWN_SYNC
        return max(known, log / _UNKNOWN_RATE)

    def unknown(self, inside: float, log: int = 0) -> tuple[str, ...]:
        """What is not corrected, and why."""
        parts = self.parts(inside)
        told = [
            f"{seconds:.1f} s of {inside:.1f} s" if self.own else "not timed here"
            for seconds in (parts.write, parts.sync)
        ]
        found = []
        if self.write is None:
            found.append(f"how fast the live database writes ({told[0]}): not corrected, it could not be measured")
        if self.sync is None:
            why = (
                "the copy does not sync"
                if self.live_sync is not None
                else "it is only read, and does not time its syncs (track_wal_io_timing = on, some hours before, lets "
                "it), or is young"
            )
            most = f"; with a slow disk it is {self.most_synced(inside, log):.1f} s, which the range allows for"
            found.append(f"how fast the live database syncs its log ({told[1]}): not corrected, {why}{most}")
        elif log:
            found.append(
                f"how fast the live database's disk takes {format_bytes(log)} of log: only its small syncs are known; "
                f"with a slow disk it is {self.most_synced(inside, log):.1f} s, which the range allows for"
            )
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "write": self.write, "sync": self.sync}


def _bounded(ratio: float) -> float:
    return round(min(max(ratio, _BOUNDS[0]), _BOUNDS[1]), 3)


def read_io(connection: Connection, *, sessions: bool = False) -> Io | None:
    """The counters; None where the server does not time them.

    Args:
        sessions: only what sessions waited for, where the server can tell (18).
    """
    version = connection.info.server_version
    if version < 140000 or connection.execute("show track_wal_io_timing").fetchone() != ("on",):
        return None
    kind = "backend_type = 'client backend'" if sessions else "true"
    query = (_IO_18 if version >= 180000 else _IO_14).format(kind=kind, database=_DATABASE)
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else Io(float(row[0]), int(row[1]), float(row[2]) + float(row[3]), float(row[4]))


def measure_speeds(
    live: Target, scratch: Target, before: Io | None, after: Io | None, *, looked: float = 0.0
) -> Speeds:
    """Put together what both servers say; some 0.3 s of each, and only reading.

    Args:
        before, after: the scratch server's counters around the migration.
        looked: for how long the looking kept the scratch server at work meanwhile.
    """
    own = None if before is None or after is None else after.since(before)
    if own is not None and own.active_seconds is not None:
        own = replace(own, active_seconds=round(max(0.0, own.active_seconds - looked), 3))
    found = Speeds(own=own, scratch_sync=_small_commit(scratch))
    try:
        with (
            connect(scratch, application_name="safepoint rehearsal", options=_LIMITS) as there,
            connect(live, application_name="safepoint rehearsal", lock_timeout=1, options=_LIMITS) as here,
        ):
            timed = read_io(here)
            _spill(there)
            runs = [(_spill(here), _spill(there)) for _ in range(_RUNS)]
    except psycopg.Error:  # no right to spill, or too slow: then it is not corrected, which is said
        return found
    return replace(
        found,
        live_sync=None if timed is None else timed.each,
        live_spills=tuple(one for one, _ in runs),
        scratch_spills=tuple(two for _, two in runs),
    )


def _small_commit(scratch: Target) -> float | None:
    """Seconds that the scratch server takes to sync a small commit; None where it does not sync at all."""
    with connect(scratch, application_name="safepoint rehearsal") as connection:
        idle, busy = (median(_took(connection, query) for _ in range(_COMMITS)) for query in ("select 1", _COMMIT))
    return round(busy - idle, 6) if busy - idle > _NOTHING else None


def _took(connection: Connection, query: str) -> float:
    began = time.perf_counter()
    connection.execute(query.encode()).fetchone()
    return time.perf_counter() - began


def _spill(connection: Connection) -> float:
    return round(_took(connection, _SPILL), 5)
