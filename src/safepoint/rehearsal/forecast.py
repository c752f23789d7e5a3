"""How long it will take on the live database: the rehearsal's times, corrected by how fast the live one is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.rehearsal.catalogue import Table
from safepoint.rehearsal.speeds import Speeds

# Seconds that one scan is meant to take, and that it may take at most on the live database. Six pairs of them are
# compared: longer ones have made no forecast better, and all else waits for them.
_SCAN_SECONDS = 0.012
_SCAN_LIMIT = 2.0
_FIRST_PAGES = 64
_RUNS = 3
_PAGE = 8192
_STEADY = 1.4
# Fewer rows than that, or a fiftieth of what the other server has in as many pages, are no measure.
_FEW_ROWS, _FEW = 20, 50
# No live server is taken for more than four times as fast as the scratch one, whatever one scan of it says.
_LEAST = 0.25
_INSTANT = 1e-12
MARGIN = 0.25
"""The share by which a forecast may be off in either direction; the goal that the demo is measured against."""

# All of a row is read and some work is done with it, as a migration does.
_SCAN = """
    select count(*), sum(hashtextextended(t::text, 0)) from only {table} as t
    where ctid >= {first}::tid and ctid < {end}::tid
"""


@dataclass(frozen=True)
class Ratio:
    """How much slower the live database is than the scratch one was (1.0: equal), by scanning one table on both.

    Seconds of a row in scans just before and just after the migration, on both in turns: what else the machines did at
    that time is in them. Of a row, and not of a page: a bloated live table has few rows in a page, where the copy, just
    restored, has many. The first scan on the live server may have read from the disk.
    """

    table: str
    pages: int
    live: tuple[float, ...]
    scratch: tuple[float, ...]

    @property
    def warm(self) -> float:
        """With everything in memory."""
        pairs = list(zip(self.live, self.scratch, strict=True))
        return max(_LEAST, median(here / max(there, _INSTANT) for here, there in pairs[1:] or pairs))

    @property
    def cold(self) -> float:
        """As the live database answered first."""
        return max(self.warm, self.live[0] / max(median(self.scratch), _INSTANT))

    @property
    def unsteady(self) -> bool:
        """Whether the scratch server's machine was so busy that its times say little."""
        return max(self.scratch) > _STEADY * min(self.scratch)

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **asdict(self),
            "live": list(self.live),
            "scratch": list(self.scratch),
            "warm": round(self.warm, 3),
            "cold": round(self.cold, 3),
        }


@dataclass(frozen=True)
class Range:
    """A time in seconds: the least, the expected, the most."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Disk:
    """The server's disk at the launch's peak, in bytes. `parts` say for what; `free` is None where it is not seen."""

    parts: Mapping[str, int]
    free: int | None

    @property
    def needed(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"needed": self.needed, "free": self.free, "parts": dict(self.parts)}


def disk_needed(
    *, peak: int, log: int, twin: int, growth: float, free: int | None, written: int = 0, keeper: str | None = None
) -> Disk:
    """What will be needed beyond what is there now. Pure.

    Args:
        peak: by how much the database with its temporary files grew on the scratch server, at most.
        log: the same of the write-ahead log's files.
        twin: bytes of the copy that stands beside the live database meanwhile; 0 where it stands already.
        growth: the live database's size against what it was at the snapshot.
        written: all that was logged. The scratch server uses its log's files again, as nobody there wants to read them.
        keeper: what may keep them on the live server; None where nothing does.
    """
    larger = max(1.0, growth)
    name = "write-ahead log" if keeper is None else f"write-ahead log ({keeper} may keep all of it)"
    log = log if keeper is None else max(log, written)
    parts = {"migrate": int(peak * larger), name: int(log * larger), "twin": twin}
    return Disk({name: size for name, size in parts.items() if size}, free)


@dataclass(frozen=True)
class Forecast:
    """What to expect on the live database. `fixed` are the window's other steps, as earlier launches measured them;
    `rehearsed` those among them of which only this rehearsal knows how long they take.

    `unknown` says what this forecast does not know. `planned` is how long the timetable's window is.
    """

    migrate: Range
    window: Range
    fixed: Mapping[str, float]
    growth: float
    ratio: Ratio | None
    unknown: tuple[str, ...]
    planned: float = 0.0
    disk: Disk | None = None
    speeds: Speeds | None = None
    rehearsed: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **asdict(self),
            "fixed": dict(self.fixed),
            "rehearsed": list(self.rehearsed),
            "ratio": None if self.ratio is None else self.ratio.as_json(),
            "unknown": list(self.unknown),
            "disk": None if self.disk is None else self.disk.as_json(),
            "speeds": None if self.speeds is None else self.speeds.as_json(),
        }


def forecast(
    *,
    inside: float,
    outside: float,
    ratio: Ratio | None,
    growth: float,
    fixed: Mapping[str, float],
    rehearsed: Sequence[str] = (),
    unmeasured: Sequence[str] = (),
    planned: float = 0.0,
    disk: Disk | None = None,
    speeds: Speeds | None = None,
    log: int = 0,
) -> Forecast:
    """Put the times together. Pure.

    Args:
        inside: seconds within migrations on the scratch server, which grow with the data and the ratio.
        outside: seconds of the command's own start and end, which do not.
        growth: the live database's size against what it was at the snapshot.
        fixed: seconds of the window's other steps, where known.
        rehearsed: those of them that were measured in this rehearsal.
        unmeasured: the window's steps of which nothing is known.
        planned: seconds between the stop of traffic and green in the timetable.
        disk: what the server's disk must hold.
        speeds: how fast both servers write and sync; what is not known of it goes by the scans' ratio.
        log: bytes that the migrations wrote to the write-ahead log.
    """
    warm, cold = (ratio.warm, ratio.cold) if ratio else (1.0, 1.0)
    known = speeds or Speeds()
    larger = max(1.0, growth)
    likely, most = (_corrected(inside, known, by) for by in (warm, max(warm, cold)))
    most = max(likely, most + max(0.0, known.most_synced(inside, log) - _sync(inside, known, max(warm, cold))))
    migrate = Range(
        round((outside + likely) * (1 - MARGIN), 3),
        round(outside + likely * larger, 3),
        round((outside + most * larger) * (1 + MARGIN), 3),
    )
    rest = sum(fixed.values())
    window = Range(
        round(migrate.low + rest * (1 - MARGIN), 3),
        round(migrate.expected + rest, 3),
        round(migrate.high + rest * (1 + MARGIN), 3),
    )
    unknown = [*known.unknown(inside, log), "what else the live server does in that hour"]
    if ratio is None:
        unknown.insert(
            0, "how fast the live database is: there was no table to measure it with, or too few rows; taken as equal"
        )
    if ratio is not None and ratio.unsteady:
        unknown.append("how long it takes on a quiet machine: the scratch server's was busy; rehearse again")
    if unmeasured:
        unknown.append(
            f"how long these steps take, of which no launch is known yet and no copy tells: {', '.join(unmeasured)}"
        )
    return Forecast(
        migrate, window, dict(fixed), round(growth, 4), ratio, tuple(unknown), planned, disk, speeds, tuple(rehearsed)
    )


def _corrected(inside: float, speeds: Speeds, ratio: float) -> float:
    """Seconds of the migrations on the live server: each part by its own ratio. What the application itself does is
    done on the same machine as here."""
    parts = speeds.parts(inside)
    written = parts.write * (speeds.write or ratio)
    return parts.client + parts.rest * ratio + written + _sync(inside, speeds, ratio)


def _sync(inside: float, speeds: Speeds, ratio: float) -> float:
    known = speeds.synced(inside)
    return speeds.parts(inside).sync * ratio if known is None else known


@dataclass(frozen=True)
class _Scan:
    seconds: float
    rows: int

    @property
    def of_a_row(self) -> float:
        return round(self.seconds / max(1, self.rows), 12)


def measure_ratio(live: Target, scratch: Target, table: Table, pages: int | None = None) -> Ratio | None:
    """Scan the same pages of one table on both servers in turns; some 0.1 s on each, and only reading.

    None where the live table is gone or locked, where a scan takes too long, and where one of them has too few rows in
    these pages.

    Args:
        pages: how many; None takes so many that a scan takes long enough to be measured.
    """
    limits = f"-c default_transaction_read_only=on -c statement_timeout={int(_SCAN_LIMIT * 1000)}"
    with (
        connect(scratch, application_name="safepoint rehearsal") as there,
        connect(live, application_name="safepoint rehearsal", lock_timeout=1, options=limits) as here,
    ):
        _plainly(there)
        _plainly(here)
        count = pages or _pages_for(there, table, table.bytes // _PAGE)
        _scan(there, table, count)
        try:
            runs = [(_scan(here, table, count), _scan(there, table, count)) for _ in range(_RUNS)]
        except psycopg.Error:
            return None
    rows = [one.rows for pair in runs for one in pair]
    if min(rows) < max(_FEW_ROWS, max(rows) // _FEW):
        return None
    return Ratio(table.name, count, tuple(one.of_a_row for one, _ in runs), tuple(two.of_a_row for _, two in runs))


def together(before: Ratio | None, after: Ratio | None) -> Ratio | None:
    """What was measured before and after the migration, as one. Pure."""
    if before is None or after is None:
        return before or after
    return Ratio(before.table, before.pages, before.live + after.live, before.scratch + after.scratch)


def _plainly(connection: Connection) -> None:
    """Compilation and helpers would make two servers differ in what is not the machine's speed."""
    connection.execute("set jit = off")
    connection.execute("set max_parallel_workers_per_gather = 0")


def _pages_for(connection: Connection, table: Table, pages: int) -> int:
    """So many pages that scanning them takes long enough to be measured, and no more."""
    count = min(pages, _FIRST_PAGES)
    while count < pages and (took := _scan(connection, table, count).seconds) < _SCAN_SECONDS:
        count = min(pages, int(count * min(4.0, max(1.1, 1.1 * _SCAN_SECONDS / max(took, 1e-6)))))
    return count


def _scan(connection: Connection, table: Table, count: int) -> _Scan:
    query = sql.SQL(_SCAN).format(
        table=sql.Identifier(table.schema, table.relation),
        first=sql.Literal("(0,0)"),
        end=sql.Literal(f"({count},0)"),
    )
    began = time.perf_counter()
    rows = (connection.execute(query).fetchone() or (0,))[0]
    return _Scan(time.perf_counter() - began, int(rows))
