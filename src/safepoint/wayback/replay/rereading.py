"""Rows of which only what mappers read was written to: their values are computed again, and where one differs the row
is staged as if the application had touched it last.

Which rows a change of another table reaches nobody can tell from a mapper's SQL. So all values of the mapped table are
computed again, in the migrated database, and compared with the twin's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column
from safepoint.wayback.mapping.expressions import literal, quote, text_of
from safepoint.wayback.mapping.expressions import written as as_written
from safepoint.wayback.mapping.mapping import TableRule
from safepoint.wayback.mapping.reading import Reading, Readings, texts_of
from safepoint.wayback.replay.compaction import key_match
from safepoint.wayback.replay.filling import PIECE, bring, bring_all, standing, values_of
from safepoint.wayback.replay.manner import NotWhole
from safepoint.wayback.replay.sinks import make_sink
from safepoint.wayback.replay.staged import META, UPDATE, Staged
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import oid_of, rows_of

# Of these the text is the value; a cast would cut it to the old type's length.
_TEXTS: Final = frozenset({"text", "character varying", "character", "bit", "bit varying"})
_NUMBERS: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
_ENUMS: Final = "SELECT t FROM unnest(%s::text[]) t JOIN pg_type y ON y.oid = to_regtype(t) WHERE y.typtype = 'e'"
_FAILED: Final = -1


def reread(connection: Connection, migrated: Connection, readings: Readings, old: Catalogue, staged: Staged) -> None:
    """Stage what the changes of tables that mappers read did to rows that were not changed themselves.

    The migrated database has to stand still, and all that it was written to has to be staged or applied.
    """
    if not readings.of:
        return
    last = written_to(connection, staged)
    for rule in readings.mapping.tables:
        reading = readings.of.get(rule.new) if rule.new in readings.made else None
        if reading is not None and staged.transactions and reading.stirred(last):
            _Table(connection, migrated, readings, rule, old, staged).run(_transaction(reading, last, staged))


def refuse_stirred(connection: Connection, readings: Readings, staged: Staged, *, whole: bool) -> None:
    """Which rows a change reaches of a table that mappers read is known only once nobody writes any more.

    Args:
        whole: transactions may be put aside as a whole: then no value may be one of a transaction that is to come.

    Raises:
        NotWhole: such a table was written to.
    """
    written = written_to(connection, staged) if readings.of else {}
    for name, reading in readings.of.items():
        if staged.transactions and (reading.stirred(written) or (whole and name in written)):
            raise NotWhole(
                f"What a mapper of {name} reads was written to: its values are carried when nobody writes any more.",
                subject=name,
                found=", ".join(sorted((reading.tables | {name}) & written.keys())) or None,
            )


def written_to(connection: Connection, staged: Staged) -> dict[str, int]:
    """By table that was written to the last transaction that did so."""
    found: dict[str, int] = {}
    for name, sink in staged.sinks.items():
        found[name] = int(ask(connection, f"SELECT coalesce(max(_sp_tx), 0) FROM pg_temp.{sink.stage}")[0][0])
    for one in staged.truncations:
        found[one.table] = max(found.get(one.table, 0), one.transaction)
    return found


def _transaction(reading: Reading, last: Mapping[str, int], staged: Staged) -> int:
    """Whose doing it is: the last one's that wrote to what is read."""
    return max((last[name] for name in reading.tables & last.keys()), default=staged.transactions) or 1


class _Table:
    def __init__(
        self,
        connection: Connection,
        migrated: Connection,
        readings: Readings,
        rule: TableRule,
        old: Catalogue,
        staged: Staged,
    ) -> None:
        self.connection, self.migrated, self.staged = connection, migrated, staged
        self.old, self.new = old.tables[rule.old], readings.new.tables[rule.new]
        self.sink = staged.sinks.get(rule.new) or make_sink(connection, self.new, staged)
        self.made = readings.made[rule.new]
        self.keys = [(self.old.by_name[one], self.new.by_name[other]) for one, other in rule.key]
        self.names = [new.name for _, new in self.keys]

    def run(self, transaction: int) -> None:
        connection = self.connection
        run(connection, "DROP TABLE IF EXISTS pg_temp.sp_reread, pg_temp.sp_stale")
        values = "".join(f", v{place} text" for place in range(len(self.made)))
        run(connection, f"CREATE TEMP TABLE sp_reread (at int8{self._places('{} text')}{values}) ON COMMIT DROP")
        self._read()
        run(connection, "ANALYZE pg_temp.sp_reread")
        self._compare()
        found = int(ask(connection, "SELECT count(*) FROM pg_temp.sp_stale")[0][0])
        if found:
            self._stage(found, transaction)
        run(connection, f"ANALYZE pg_temp.{self.sink.stage}")

    def _places(self, form: str) -> str:
        return "".join(f", {form.format(f'k{place}')}" for place in range(len(self.keys)))

    def _read(self) -> None:
        """All values: in one go, or where a mapper fails, of the twin's rows piece by piece."""
        names = [*self.names, *self.made.values()]
        values, join = texts_of(self.new, names)
        try:
            with self.connection.transaction():
                for rows, which in standing(self.new):
                    query = f"SELECT 0::int8{values} FROM {rows} new{join} WHERE {which}"
                    bring(self.connection, self.migrated, query, "pg_temp.sp_reread")
        except psycopg.DatabaseError as error:
            if not is_unmade(error):
                raise
            self._read_pieces(names)

    def _read_pieces(self, names: Sequence[str]) -> None:
        keys = "".join(f", {as_written(f'o.{quote(old.name)}')}" for old, _ in self.keys)
        with self.connection.cursor("sp_twins") as cursor:
            cursor.execute(sql.SQL(f"SELECT row_number() OVER (){keys} FROM {rows_of(self.old)} o"))
            while piece := cursor.fetchmany(PIECE):
                self._read_piece(names, piece)

    def _read_piece(self, names: Sequence[str], piece: Sequence[tuple[object, ...]]) -> None:
        words = self.new, self.names, names, piece
        failed = {n for n, _ in bring_all(self.connection, self.migrated, *words, "pg_temp.sp_reread")}
        if rows := [row for row in piece if row[0] in failed]:
            keys = ", ".join(f"{literal(list(column))}::text[]" for column in list(zip(*rows, strict=True))[1:])
            run(
                self.connection,
                f"INSERT INTO pg_temp.sp_reread (at{self._places('{}')}) SELECT {_FAILED}, * FROM unnest({keys}) f",
            )

    def _compare(self) -> None:
        """`sp_stale`: the keys of the twin's rows that have another value, or one that cannot be computed."""
        known = {row[0] for row in self.connection.execute(_ENUMS, [[new.type for _, new in self.keys]]).fetchall()}
        keys = [(old, replace(new, type="text", base="text") if new.type in known else new) for old, new in self.keys]
        match = " AND ".join(key_match(f"r.k{place}::{new.type}", old, new) for place, (old, new) in enumerate(keys))
        same = " AND ".join(
            f"s.{quote(new.name)}::{kind.type} = r.k{place}::{kind.type}"
            for place, ((_, new), (_, kind)) in enumerate(zip(self.keys, keys, strict=True))
        )
        pairs = [(self.old.by_name[one], self.new.by_name[other]) for one, other in self.made.items()]

        def make(differs: Sequence[str]) -> None:
            run(
                self.connection,
                f"CREATE TEMP TABLE sp_stale ON COMMIT DROP AS SELECT row_number() OVER () AS n{self._places('r.{}')} "
                f"FROM pg_temp.sp_reread r JOIN {rows_of(self.old)} o ON {match} "
                f"WHERE (r.at = {_FAILED} OR {' OR '.join(differs)}) "
                f"AND NOT EXISTS (SELECT FROM pg_temp.{self.sink.stage} s WHERE {same})",
            )

        try:
            with self.connection.transaction():
                make([_differs(old, made, f"r.v{place}") for place, (old, made) in enumerate(pairs)])
        except psycopg.DatabaseError as error:  # a value that the old type does not hold, or a type the twin lacks
            if not is_unmade(error):
                raise
            make([_says_other(old, made, f"r.v{place}") for place, (old, made) in enumerate(pairs)])

    def _stage(self, found: int, transaction: int) -> None:
        """What mappers make of these rows is brought with what else is to be looked up (`unchanged`)."""
        if self.new.partitioned:
            leaves = [*self.new.leaves, *(one.name for one in self.new.apart)]
            oids = ask(self.migrated, f"SELECT {', '.join(map(oid_of, leaves))}")[0]
            self.sink.leaves.update(zip(map(int, oids), leaves, strict=True))
        unchanged = f"{literal([*self.made.values()])}::text[]"
        head = (
            f"(({self.staged.at} + w.at) * 4 + {UPDATE})::int8, {transaction}::int4, new.tableoid, NULL::text[], "
            f"{unchanged}"
        )
        into = f"pg_temp.{self.sink.stage} ({', '.join([*META, *map(quote, self.sink.own)])})"
        with self.connection.cursor("sp_stale") as cursor:
            cursor.execute("SELECT * FROM pg_temp.sp_stale")
            while piece := cursor.fetchmany(PIECE):
                query = values_of(self.new, self.names, self.sink.own, piece, head)
                bring(self.connection, self.migrated, query, into)
        self.sink.reread = (self.staged.at + 1) * 4
        self.staged.at += found
        self.sink.rows += found
        self.sink.others += found
        self.sink.unchanged += found


def _says_other(old: Column, made: Column, value: str) -> str:
    if {old.base, made.base} <= _NUMBERS and old.type != "numeric":  # which has 1.0 and 1.00
        return f"o.{quote(old.name)}::numeric IS DISTINCT FROM {value}::numeric"
    return f"{text_of(old, f'o.{quote(old.name)}')} IS DISTINCT FROM {value}"


def _differs(old: Column, made: Column, value: str) -> str:
    """As `_says_other`, of what the old type makes of the value: 5 is 5.00 there."""
    if old.base in _TEXTS or made.base == old.base == old.type:
        return _says_other(old, made, value)
    return _says_other(old, made, text_of(old, f"{value}::{made.type}::{old.type}"))
