"""The round trip: the mapping applied to every row of a migrated copy must give the old rows, value by value.

That proves the mapping on the user's own data before the launch, and finds what no operation tells: columns that a
data migration changed. Values are compared as text, as the fingerprint does: 1.0 is not 1.00. Nothing is changed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import psycopg

from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.mapping.catalogue import Catalogue, Column, read_catalogue
from safepoint.wayback.mapping.deriving import keyed
from safepoint.wayback.mapping.expressions import Casts, quote, text_of
from safepoint.wayback.mapping.mapping import TableRule, WayBack
from safepoint.wayback.mapping.natural import make_tables
from safepoint.wayback.mapping.reading import Reading, find_readings, texts_of
from safepoint.wayback.mapping.tenants import named
from safepoint.wayback.replay.compaction import make_out, projection, targets, typed, unstaged
from safepoint.wayback.replay.filling import bring
from safepoint.wayback.replay.staged import META, Sink
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import Scope, Work, rows_of
from safepoint.wayback.sessions import asking
from safepoint.wayback.trial.sums import Print, rows_alike

_SAMPLE: Final = 5
ANYTHING: Final = "anything"
# Compiling takes longer than it saves: each query goes over a table once.
_OPTIONS: Final = "-c jit=off"
_ROWS: Final = "SELECT (row_number() OVER () * 4 + 1)::int8, 1::int4, 0::oid, NULL::text[], NULL::text[]"


@dataclass(frozen=True)
class Difference:
    """A value that does not come back. `expected` is the old one; None is NULL."""

    key: Mapping[str, str | None]
    column: str
    expected: str | None
    found: str | None


@dataclass(frozen=True)
class TableTrip:
    """One old table. `missing` rows have no migrated row, `extra` ones no old row; `columns` counts differing values.

    `failed` is what PostgreSQL said where the mapping could not be computed at all. `by`: where sums of hashes over
    both sides were equal no row was looked at by itself (see `sums`). `reads`: the tables of the new schema that its
    mappers read besides; ANYTHING where nobody knows which.
    """

    table: str
    rows: int
    missing: int
    extra: int
    columns: Mapping[str, int]
    sample: tuple[Difference, ...] = ()
    failed: str | None = None
    by: Literal["sums", "rows"] = "rows"
    reads: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Did every row come back as it was?"""
        return not (self.missing or self.extra or self.columns or self.failed)


@dataclass(frozen=True)
class Accepted:
    """The old tables to which the migrations may add rows, or of which they may remove some, as a person said.

    `caches` hold what anybody may forget: the rehearsal itself clears them, and so does the way back.
    """

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    caches: frozenset[str] = frozenset()

    @classmethod
    def of(cls, old: Catalogue, *names: Collection[str]) -> Accepted:
        """By the names that the plan file, or the application, gives them: as the fields come."""
        return cls(*(frozenset(table.name for name in one for table in named(old, name)) for one in names))

    def missing(self, table: TableTrip) -> tuple[str, ...]:
        """The keys of the plan file by which a person would accept what is not yet accepted. Pure."""
        open_ = {
            "added_rows": table.extra and table.table not in self.added,
            "removed_rows": table.missing and table.table not in self.removed,
        }
        return tuple(name for name, asked in open_.items() if asked)

    def answers(self, doubt: str) -> bool:
        """Whether a doubt of an earlier round trip asked for what a person has accepted since. Pure."""
        for name in self.added | self.removed:
            keys = [key for key, names in (("added_rows", self.added), ("removed_rows", self.removed)) if name in names]
            if any(doubt.endswith(_asking(name, one)) for one in (keys, *([key] for key in keys))):
                return True
        return False


NOTHING: Final = Accepted()


@dataclass(frozen=True)
class RoundTrip:
    """All tables. A trip that looked at nothing has failed."""

    tables: tuple[TableTrip, ...]
    seconds: float

    @property
    def whole(self) -> bool:
        """Did every row of every table come back as it was?"""
        return bool(self.tables) and all(table.whole for table in self.tables)

    def as_json(self) -> dict[str, Any]:
        """For the ledger and the report."""
        return {**asdict(self), "whole": self.whole}


def round_trip(
    old: Target,
    migrated: Target,
    mapping: WayBack,
    *,
    known: Mapping[str, Print] | None = None,
    catalogues: tuple[Catalogue, Catalogue] | None = None,
    jobs: int = 2,
    cancelled: Cancelled = never,
) -> RoundTrip:
    """Compare each row of a database at the old schema with what the mapping makes of the migrated copy's row.

    Both must stand still: they are the rehearsal's copies, or the twin and the migrated database before traffic.

    Args:
        known: by old table what a fingerprint (of the newest format) says of it; such a table need not be read again.
        catalogues: of both, where they have been read and nobody has changed a definition since.
        jobs: sessions that may read at the same time.

    Raises:
        DatabaseError: PostgreSQL refused.
        Interrupted: `cancelled` became true.
    """
    began = time.monotonic()
    with (
        connect(old, application_name="safepoint round trip", options=_OPTIONS) as connection,
        connect(migrated, application_name="safepoint round trip", options=_OPTIONS) as source,
        asking("Making the round trip", old.dbname),
        connection.transaction(force_rollback=True),
    ):
        # The application's event triggers are not to write down the temporary tables: that is a row more in its table.
        connection.execute("SET LOCAL session_replication_role = replica")
        before, now = catalogues or (read_catalogue(connection), read_catalogue(source))
        make_tables(connection, source, mapping.tables, mapping.models, before, now)
        readings = find_readings(connection, source, mapping, before, now)
        found = []
        for number, rule in enumerate(readings.mapping.tables):
            if cancelled():
                raise Interrupted("The round trip was stopped.", subject=rule.old)
            work = _work(rule, before, readings.new, number)
            if (fault := readings.faults.get(rule.old)) is not None:
                found.append(_row_by_row(connection, source, work, fault))
                continue
            trip = _trip(connection, source, work, before.casts, (known or {}).get(work.old.name), jobs)
            found.append(replace(trip, reads=_reads(readings.of.get(rule.new))))
        return RoundTrip(tuple(found), round(time.monotonic() - began, 3))


def _reads(reading: Reading | None) -> tuple[str, ...]:
    if reading is None:
        return ()
    return (*sorted(reading.tables), *([ANYTHING] if reading.unseen else []))


def _work(rule: TableRule, before: Catalogue, now: Catalogue, number: int) -> Work:
    old, new = before.tables.get(rule.old), now.tables.get(rule.new)
    if old is None or new is None:
        raise DatabaseError(
            f"The mapping is of another database: {rule.old} or {rule.new} is not there.", subject=rule.old
        )
    return Work(rule, old, new, Sink(new, f"sp_trip_{number}"), number)


def _trip(
    connection: Connection, source: Connection, work: Work, casts: Casts, known: Print | None, jobs: int
) -> TableTrip:
    make_out(connection, work)
    said = _refused(connection, _carrying(connection, work, unstaged(work)))  # does the twin know all that it names?
    whole = None if said else rows_alike(connection, source, work, casts, known, jobs=jobs)
    if whole is None:
        trip = _row_by_row(connection, source, work, said)
    else:
        trip = TableTrip(work.old.name, whole, 0, 0, {}, by="sums")
    run(connection, f"DROP TABLE {work.out}")
    return trip


def _carrying(connection: Connection, work: Work, staged: str) -> str:
    """The statement that makes old rows of the staged ones."""
    types = connection.execute(
        "SELECT t FROM unnest(%s::text[]) t WHERE to_regtype(t) IS NOT NULL", [[c.type for c in work.new.columns]]
    ).fetchall()
    scope = Scope((), frozenset(str(row[0]) for row in types))
    values, join = projection(work)
    match = " AND ".join(f"old.{quote(one.name)}::text = new.{quote(two.name)}::text" for one, two in work.keys)
    return (
        f"INSERT INTO {work.out} ({targets(work)}_sp_n) SELECT {values}new._sp_at "
        f"FROM {typed(work, scope, source=staged)} new LEFT JOIN {rows_of(work.old)} old ON {match or 'false'}{join}"
    )


def _row_by_row(connection: Connection, source: Connection, work: Work, said: str | None) -> TableTrip:
    """`said`: what PostgreSQL had against the mapping already."""
    rows = int(ask(connection, f"SELECT count(*) FROM {rows_of(work.old)}")[0][0])
    if said is None:
        _make_stage(connection, work)
        said = _copied(connection, source, work) or _refused(connection, _carrying(connection, work, work.stage))
        run(connection, f"DROP TABLE {work.stage}")
    if said is not None:
        return TableTrip(work.old.name, rows, 0, 0, {}, failed=said)
    return _compare(connection, work, rows) if work.rule.key else _count(connection, work, rows)


def _refused(connection: Connection, carry: str) -> str | None:
    """What PostgreSQL says where it cannot compute the mapping."""
    try:
        with connection.transaction():
            run(connection, carry)
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
        return error.diag.message_primary or str(error)
    return None


def _make_stage(connection: Connection, work: Work) -> None:
    columns = "".join(f", {quote(name)} text" for name in work.sink.columns)
    run(
        connection,
        f"CREATE TEMP TABLE {work.sink.stage} (_sp_at int8, _sp_tx int4, _sp_leaf oid, _sp_from text[], "
        f"_sp_unchanged text[]{columns}) ON COMMIT DROP",
    )


def _copied(connection: Connection, source: Connection, work: Work) -> str | None:
    """The migrated rows, as text, without touching a value on the way; what PostgreSQL says where a mapper that is
    computed there cannot be."""
    values, join = texts_of(work.new, work.sink.columns)
    query = f"{_ROWS}{values} FROM {rows_of(work.new)} new{join}"
    into = f"{work.stage} ({', '.join([*META, *map(quote, work.sink.columns)])})"
    try:
        with connection.transaction():
            bring(connection, source, query, into)
    except psycopg.DatabaseError as error:
        if not join or not is_unmade(error):
            raise
        return error.diag.message_primary or str(error)
    run(connection, f"ANALYZE {work.stage}")
    return None


def _compare(connection: Connection, work: Work, rows: int) -> TableTrip:
    names = [column.name for column in _kept(work)]

    def said(side: str, name: str) -> str:
        return text_of(work.old.by_name[name], f"{side}.{quote(name)}")

    keys = [old.name for old, _ in work.keys]
    match = " AND ".join(f"t.{quote(name)} = o.{quote(name)}" for name in keys)
    differs = [f"{said('t', name)} IS DISTINCT FROM {said('o', name)}" for name in names]
    both = f"FROM {rows_of(work.old)} t JOIN {work.out} o ON {match}"
    counts = ask(
        connection, f"SELECT count(*), {', '.join(f'count(*) FILTER (WHERE {one})' for one in differs)} {both}"
    )
    met, *numbers = counts[0]
    given = ask(connection, f"SELECT count(*) FROM {work.out}")[0][0]
    columns = {name: number for name, number in zip(names, numbers, strict=True) if number}
    shown = ", ".join(f"{said('t', name)}, {said('o', name)}" for name in columns)
    sample: list[Difference] = []
    if columns:
        key = ", ".join(said("t", name) for name in keys)
        wrong = " OR ".join(differs)
        for row in ask(connection, f"SELECT {key}, {shown} {both} WHERE {wrong} LIMIT {_SAMPLE}"):
            named = dict(zip(keys, row[: len(keys)], strict=True))
            pairs = zip(columns, row[len(keys) :: 2], row[len(keys) + 1 :: 2], strict=True)
            sample += [Difference(named, name, was, found) for name, was, found in pairs if was != found]
    return TableTrip(work.old.name, rows, rows - met, given - met, columns, tuple(sample))


def _kept(work: Work) -> list[Column]:
    """The old columns that have values of their own. What is computed says no more than what it is computed of, and may
    be such that computing it fails (a virtual column, PostgreSQL 18)."""
    return [column for column in work.old.columns if not column.generated]


def _count(connection: Connection, work: Work, rows: int) -> TableTrip:
    """Without a key: how many rows stand on one side only."""
    lost = {rule.column for rule in work.rule.columns if rule.kind in ("restored", "none")}
    values = ", ".join(text_of(column, quote(column.name)) for column in _kept(work) if column.name not in lost)
    sides = (f"SELECT {values} FROM {rows_of(work.old)}", f"SELECT {values} FROM {work.out}")
    missing, extra = (
        int(ask(connection, f"SELECT count(*) FROM ({one} EXCEPT ALL {other}) d")[0][0])
        for one, other in (sides, sides[::-1])
    )
    return TableTrip(work.old.name, rows, missing, extra, {})


def doubtful(mapping: WayBack, trip: RoundTrip, accepted: Accepted = NOTHING) -> tuple[str, ...]:
    """Why a rollback may not carry rows, one sentence each; empty means that it may. Pure."""
    keyless = {rule.old for rule in mapping.tables if not rule.key}
    found = list(mapping.problems)
    if not trip.tables:
        found.append("The round trip looked at no table.")
    for table in trip.tables:
        if table.table in accepted.caches and not table.failed:
            continue
        name = table.table.removeprefix("public.")
        if table.failed:
            found.append(f"{name}: the mapping cannot be computed: {table.failed}")
        found += [f"{name}.{column}: {count} values do not come back" for column, count in table.columns.items()]
        said = f"{name}: {_came_and_went(table)}."
        if table.missing and table.extra and table.table in keyless:
            found.append(said)  # a row that was changed looks like that
        elif keys := accepted.missing(table):
            found.append(f"{said} {_asking(table.table, keys)}")
    return tuple(found)


def _came_and_went(table: TableTrip) -> str:
    counts = [(table.missing, "missing"), (table.extra, "new")]
    (count, what), *more = [one for one in counts if one[0]] or counts[:1]
    said = f"{count} {'row is' if count == 1 else 'rows are'} {what} after the migration"
    return said + "".join(f", {other} {'is' if other == 1 else 'are'} {how}" for other, how in more)


_ASKED: Final = re.compile(
    r": (?P<said>[^:]+)\. Where that may be so, put (?P<keys>.+) into \[(?P<table>.+)\] of the plan\.$"
)


def asked(doubt: str) -> tuple[str, tuple[str, ...], str] | None:
    """Of a doubt about rows that come or go: the plan file's table, its lines, and what they are about. Pure."""
    found = _ASKED.search(doubt)
    return None if found is None else (found["table"], tuple(found["keys"].split(" and ")), found["said"])


def _asking(table: str, keys: Sequence[str]) -> str:
    """What a person would write who accepts that rows of a table come or go."""
    words = " and ".join(f"{key} = true" for key in keys)
    return f"Where that may be so, put {words} into [wayback.tables.{keyed(table)}] of the plan."
