"""One run of `migrate`, watched from outside: times, locks, statements, rewrites, what was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, cast

from safepoint.django.managepy import Manage, explain
from safepoint.errors import CommandFailed, SafepointError
from safepoint.hosts.command import Result
from safepoint.postgres.target import Target
from safepoint.progress import never
from safepoint.rehearsal.catalogue import Picture
from safepoint.rehearsal.costs import Cost, Counts, by_run, by_statement
from safepoint.rehearsal.sampling import EVERY, MODES, LockSpan, Sampled, Sampler, Statement, Storage
from safepoint.rehearsal.statements import altered, speaks_of
from safepoint.rehearsal.timeline import Applied, Stamps, timeline

_SLOWEST = 20


@dataclass(frozen=True)
class Lock:
    """A lock that the migration held on a table, or the strongest one of a migration or of the whole run."""

    table: str
    mode: str
    blocks: str
    began: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@dataclass(frozen=True)
class MigrationRun:
    """What one migration did. Times are seconds since the command was started.

    `grown_bytes` is how much bigger (or smaller) the database is after it; `rows` those that it wrote, by the server's
    own count, and `temporary_bytes` what it wrote to temporary files: None where the server does not count. `indexes`
    are those that it built, or built anew, on tables that were there before.
    """

    label: str
    began: float
    seconds: float
    ok: bool
    wal_bytes: int
    rewrites: tuple[str, ...]
    locks: tuple[Lock, ...]
    grown_bytes: int = 0
    rows: int | None = None
    temporary_bytes: int | None = None
    indexes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        lists = {"rewrites": list(self.rewrites), "indexes": list(self.indexes)}
        return {**asdict(self), **lists, "locks": [lock.as_json() for lock in self.locks]}


@dataclass(frozen=True)
class Observed:
    """The whole run. `seconds` is what the command took; `outside` the part of it outside of all migrations.

    `written` are rows inserted, updated or deleted by table; `rewrites` and `indexes` those of the whole run.
    `peak_bytes` is how much bigger than before the database was at most, temporary files included, and `log_bytes` the
    files of the write-ahead log. `costs` are the statements by the server's own count, those that took longest in
    all first (of them some are shown); empty where it does not count.
    """

    seconds: float
    outside: float
    migrations: tuple[MigrationRun, ...]
    locks: tuple[Lock, ...]
    statements: tuple[Statement, ...]
    rewrites: tuple[str, ...]
    indexes: tuple[str, ...]
    written: dict[str, int]
    wal_bytes: int
    temporary_bytes: int
    peak_bytes: int
    looks: int
    fault: str | None
    output: str
    error: SafepointError | None
    log_bytes: int = 0
    costs: tuple[Cost, ...] = ()

    @property
    def failed(self) -> str | None:
        """The migration that raised."""
        return next((one.label for one in self.migrations if not one.ok), None) if self.error else None

    def _told(self) -> tuple[Cost, ...]:
        """The slowest, and whatever rewrote a table or built an index: on a bigger table that takes long."""
        return tuple(one for number, one in enumerate(self.costs) if number < _SLOWEST or one.rewrites or one.indexes)

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        plain = (
            "seconds",
            "outside",
            "written",
            "wal_bytes",
            "temporary_bytes",
            "peak_bytes",
            "log_bytes",
            "looks",
            "fault",
        )
        return {
            **{name: getattr(self, name) for name in plain},
            "migrations": [one.as_json() for one in self.migrations],
            "locks": [one.as_json() for one in self.locks],
            "statements": [one.as_json() for one in self.statements],
            "costs": [one.as_json() for one in self._told()],
            "rewrites": list(self.rewrites),
            "indexes": list(self.indexes),
            "looks_every_seconds": EVERY,
            "output": self.output,
            "error": None if self.error is None else self.error.as_json(),
        }


@dataclass(frozen=True)
class Watched:
    """A run before it was put together with the catalogue's pictures of before and after."""

    seconds: float
    runs: tuple[Applied, ...]
    sampled: Sampled
    output: str
    error: SafepointError | None


def watch(
    manage: Manage,
    target: Target,
    *,
    labels: Sequence[str] | None = None,
    timeout: float | None = None,
    cancelled: Callable[[], bool] = never,
) -> Watched:
    """Run `migrate --noinput` and look at its database meanwhile. A migration that raises is an answer, no error.

    Args:
        target: a superuser's login to the database that `manage` is pointed at.
        labels: the pending migrations; None believes whatever is printed.

    Raises:
        Interrupted: `cancelled` became true.
    """
    command = manage.command("migrate", "--noinput")
    with Sampler(target) as sampler:
        began = time.monotonic()
        stamps = Stamps(lambda: time.monotonic() - began, sampler.mark)
        error: SafepointError | None = None
        try:
            manage.host.stream(command, stdout=cast(BinaryIO, stamps), timeout=timeout, cancelled=cancelled)
        except CommandFailed as failed:
            said = Result(command, 1, command.scrub(stamps.text), failed.said or failed.found or failed.message, 0.0)
            error = explain(said)
        seconds = time.monotonic() - began
        shift = began - sampler.began
    runs = timeline(stamps.pieces, seconds, labels)
    return Watched(seconds, runs, _shifted(sampler.sampled(), shift), command.scrub(stamps.text).strip(), error)


def observed(watched: Watched, before: Picture, after: Picture) -> Observed:
    """Put what was seen together with the pictures of before and after. Pure."""
    names = {oid: table.name for oid, table in before.tables.items()}
    names |= {
        oid: f"{names[oid]} → {table.name}" if names.get(oid, table.name) != table.name else table.name
        for oid, table in after.tables.items()
    }
    sampled = watched.sampled
    storages = sampled.storages
    counted = sampled.counted
    counts = None if counted is None else by_run(counted, watched.runs)
    indexes = _indexes(before, after)
    migrations = tuple(_run(run, watched, names, indexes, counts) for run in watched.runs)
    inside = sum(run.seconds for run in watched.runs)
    written = {
        names[oid]: table.written - (before.tables[oid].written if oid in before.tables else 0)
        for oid, table in after.tables.items()
    }
    locks = tuple(lock for span in sampled.locks if (lock := _lock(span, names)) is not None)
    slowest = sorted(sampled.statements, key=lambda one: -one.seconds)[:_SLOWEST]
    return Observed(
        seconds=round(watched.seconds, 3),
        outside=round(max(0.0, watched.seconds - inside), 3),
        migrations=migrations,
        locks=locks,
        statements=tuple(replace(one, locks=_while(one, locks)) for one in slowest),
        rewrites=tuple(_rewritten(before, after)),
        indexes=tuple(name for oid, name in indexes.items() if _file(before, oid) != after.indexes[oid].filenode),
        written={name: rows for name, rows in sorted(written.items()) if rows > 0},
        wal_bytes=storages[-1].wal - storages[0].wal if storages else 0,
        temporary_bytes=storages[-1].temporary - storages[0].temporary if storages else 0,
        peak_bytes=sampled.peak_bytes,
        looks=sampled.looks,
        fault=sampled.fault,
        output=watched.output,
        error=watched.error,
        log_bytes=sampled.log_bytes,
        costs=() if counted is None else rebuilding(by_statement(counted, watched.runs), migrations),
    )


def _run(
    run: Applied,
    watched: Watched,
    names: Mapping[int, str],
    indexes: Mapping[int, str],
    counts: Mapping[str, Counts] | None,
) -> MigrationRun:
    first, last = _around(watched.sampled.storages, run)
    rewrites = sorted(
        names[oid] for oid, file in last.files.items() if oid in names and first.files.get(oid, file) != file
    )
    started = watched.sampled.storages[0].files if watched.sampled.storages else {}
    makers = {oid: label for oid, label in watched.sampled.makers.items() if oid not in started}
    seen = {oid for oid, file in last.files.items() if oid not in makers and first.files.get(oid) != file}
    made = {oid for oid, label in makers.items() if label == run.label}
    built = sorted(indexes[oid] for oid in seen | made if oid in indexes)
    held: dict[str, Lock] = {}
    for span in watched.sampled.locks:
        lock = _lock(_within(span, run), names) if span.began <= run.ended and span.ended >= run.began else None
        if lock is None:
            continue
        known = held.get(lock.table)
        if known is None or _rank(lock) > _rank(known):
            held[lock.table] = lock
    locks = tuple(sorted(held.values(), key=_rank, reverse=True))
    own = None if counts is None else counts.get(run.label, Counts())
    return MigrationRun(
        label=run.label,
        began=round(run.began, 3),
        seconds=run.seconds,
        ok=run.ok,
        wal_bytes=max(0, last.wal - first.wal),
        rewrites=tuple(rewrites),
        locks=locks,
        grown_bytes=last.size - first.size,
        rows=None if own is None else own.rows,
        temporary_bytes=None if own is None else own.temporary_bytes,
        indexes=tuple(built),
    )


def rebuilding(costs: Sequence[Cost], runs: Sequence[MigrationRun]) -> tuple[Cost, ...]:
    """The statements with the tables that they rewrote, and the indexes that they built: those of which they speak,
    of what their migrations were seen to rewrite and build. Pure.

    Of several that alter a table, the ones that wrote about as much log as the one that wrote most have rewritten it.
    """
    rewrote: dict[int, set[str]] = {}
    built: dict[int, set[str]] = {}
    for run in runs:
        own = {number: cost for number, cost in enumerate(costs) if run.label in cost.migrations}
        for name in run.rewrites:
            altering = {number: cost for number, cost in own.items() if altered(cost.text) in _relations(name)}
            most = max((cost.wal_bytes for cost in altering.values()), default=0)
            for number, cost in altering.items():
                if 2 * cost.wal_bytes >= most:
                    rewrote.setdefault(number, set()).add(name)
        for name in run.indexes:
            for number, cost in own.items():
                if speaks_of(cost.text, name.split(" on ")[0]):
                    built.setdefault(number, set()).add(name)
    return tuple(
        replace(
            cost,
            rewrites=tuple(sorted(rewrote.get(number, ()))),
            indexes=tuple(sorted(built.get(number, ()))),
        )
        for number, cost in enumerate(costs)
    )


def _relations(name: str) -> set[str]:
    """The bare names in `schema.table` or `schema.table → schema.other`."""
    return {part.rsplit(".", 1)[-1].strip('"') for part in name.split(" → ")}


def _while(statement: Statement, locks: Sequence[Lock]) -> tuple[dict[str, Any], ...]:
    """The strongest lock on each table that kept somebody out while a statement ran, and for how long it was held."""
    ended = statement.began + statement.seconds
    held: dict[str, Lock] = {}
    for lock in locks:
        if lock.blocks and lock.began <= ended and lock.began + lock.seconds >= statement.began:
            held[lock.table] = max(held.get(lock.table, lock), lock, key=_rank)
    return tuple(
        {"table": one.table, "mode": one.mode, "blocks": one.blocks, "seconds": one.seconds} for one in held.values()
    )


def _rank(lock: Lock) -> tuple[int, float]:
    return MODES.index(lock.mode), lock.seconds


def _within(span: LockSpan, run: Applied) -> LockSpan:
    """The part of a lock's time that lies within a migration's."""
    return replace(span, began=max(span.began, run.began), ended=min(span.ended, run.ended))


def _lock(span: LockSpan, names: Mapping[int, str]) -> Lock | None:
    """None for what is no table (indexes, sequences, what is stored apart), and for what was gone afterwards."""
    if span.table not in names:
        return None
    return Lock(names[span.table], span.mode, span.blocks, round(span.began, 3), span.seconds)


def _around(storages: Sequence[Storage], run: Applied) -> tuple[Storage, Storage]:
    """The last look at the storage before a migration began, and the first one after it ended."""
    empty = Storage(0.0, {}, 0, 0)
    before = [one for one in storages if one.at <= min(run.began + EVERY, run.ended)]
    after = [one for one in storages if one.at >= run.ended]
    return (before[-1] if before else empty), (after[0] if after else storages[-1] if storages else empty)


def _rewritten(before: Picture, after: Picture) -> list[str]:
    return [
        table.name
        for oid, table in after.tables.items()
        if oid in before.tables and table.kind in "rm" and before.tables[oid].filenode != table.filenode
    ]


def _indexes(before: Picture, after: Picture) -> dict[int, str]:
    """Indexes of tables that were there before, as `name on table`."""
    return {
        oid: f"{index.name} on {after.tables[index.table].name}"
        for oid, index in after.indexes.items()
        if index.table in before.tables and index.table in after.tables
    }


def _file(picture: Picture, index: int) -> int | None:
    return picture.indexes[index].filenode if index in picture.indexes else None


def _shifted(sampled: Sampled, shift: float) -> Sampled:
    """The same on the command's clock, which began `shift` seconds later."""
    return replace(
        sampled,
        locks=tuple(replace(one, began=one.began - shift, ended=one.ended - shift) for one in sampled.locks),
        statements=tuple(replace(one, began=round(one.began - shift, 3)) for one in sampled.statements),
        storages=tuple(replace(one, at=one.at - shift) for one in sampled.storages),
        counted=None
        if sampled.counted is None
        else replace(sampled.counted, shares=tuple(replace(one, at=one.at - shift) for one in sampled.counted.shares)),
    )
