"""Rows that nobody wrote, and that the twin has no place for any more: a mapper passes them over.

The old release holds one value where the new one may have several rows, such as links that a foreign key became. Where
people add one, the mapper may take that; what the migration had made of the old value is nowhere then. It is kept for
the next launch, and told as a row that was not written itself.

A row is passed over where the mapper gives the same without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import ForeignKey, Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.mapping.mapping import TableRule, short
from safepoint.wayback.mapping.reading import Readings
from safepoint.wayback.replay.filling import bring, values_of
from safepoint.wayback.replay.staged import TRANSACTIONS, Sink
from safepoint.wayback.replay.stashing import TRANSACTION, as_object, place_by
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import rows_of

KIND: Final = "passed over"
_PIECE: Final = 500
_MOST: Final = 20
"""Of so many rows of one old row it is tried which are passed over; of more it is taken to be so."""
_Values = dict[int, tuple[Any, ...]]


def keep_passed_over(connection: Connection, migrated: Connection, readings: Readings, homeless: Sequence[Sink]) -> int:
    """Stash them, and note them as put aside, once all else is; gives how many.

    Args:
        homeless: what was staged of tables that the old schema does not have.
    """
    found = 0
    for rule in readings.mapping.tables if readings.of else ():
        reading = readings.of.get(rule.new)
        for sink in homeless if reading is not None else ():
            if reading is not None and sink.table.name in reading.tables and sink.rows:
                for key in sink.table.foreign_keys:
                    if key.parent == rule.new and not key.period:
                        found += _Beside(connection, migrated, readings, rule, sink, key).keep()
    return found


class _Beside:
    """The rows beside those that were written: of one table, by a foreign key to the mapped one."""

    def __init__(
        self,
        connection: Connection,
        migrated: Connection,
        readings: Readings,
        rule: TableRule,
        sink: Sink,
        key: ForeignKey,
    ) -> None:
        self.connection, self.migrated, self.rule, self.sink, self.key = connection, migrated, rule, sink, key
        self.parent: Table = readings.new.tables[rule.new]
        self.made = readings.made[rule.new]
        self.names = sink.table.key or sink.own

    def keep(self) -> int:
        found, name = 0, literal(self.sink.table.name)
        columns = "".join(f", {quote(one)} text" for one in self.sink.own)
        run(self.connection, "DROP TABLE IF EXISTS pg_temp.sp_beside")
        run(
            self.connection,
            f"CREATE TEMP TABLE sp_beside (_sp_n int8 GENERATED ALWAYS AS IDENTITY, _sp_at int8{columns}) "
            f"ON COMMIT DROP",
        )
        run(  # an earlier replay's, and written to since
            self.connection,
            f"DELETE FROM safepoint.put_aside p WHERE p.relation = {name} AND p.kind = '{KIND}' "
            f"AND p.key IN (SELECT {as_object('s', self.names)} FROM pg_temp.{self.sink.stage} s)",
        )
        with self.connection.cursor("sp_groups") as cursor:
            own = [f"s.{quote(one)}" for one in self.key.columns]
            filled = " AND ".join(f"{one} IS NOT NULL" for one in own)
            stage, names = f"pg_temp.{self.sink.stage}", ", ".join(map(literal, self.key.parent_columns))
            # A row that was put aside has in the twin what it had.
            filled += (
                f" AND jsonb_object(ARRAY[{names}], ARRAY[{', '.join(own)}]) NOT IN (SELECT p.key "
                f"FROM safepoint.put_aside p WHERE p.relation = {literal(self.rule.old)} AND p.kind <> '{KIND}')"
            )
            cursor.execute(
                sql.SQL(
                    f"SELECT row_number() OVER (), * FROM (SELECT DISTINCT {', '.join(own)} FROM {stage} s "
                    f"WHERE {filled}) g"
                )
            )
            while groups := cursor.fetchmany(_PIECE):
                found += self._keep(groups)
        return found

    def _keep(self, groups: Sequence[tuple[Any, ...]]) -> int:
        """`groups`: a number, and what the foreign key says."""
        connection, table = self.connection, self.sink.table
        run(connection, "TRUNCATE pg_temp.sp_beside")
        query = values_of(table, self.key.columns, self.sink.own, groups)
        bring(connection, self.migrated, query, f"pg_temp.sp_beside (_sp_at, {', '.join(map(quote, self.sink.own))})")
        same = " AND ".join(f"s.{quote(one)} IS NOT DISTINCT FROM b.{quote(one)}" for one in self.names)
        stage, name = f"pg_temp.{self.sink.stage}", literal(table.name)
        run(connection, f"DELETE FROM pg_temp.sp_beside b USING {stage} s WHERE {same}")
        kept, key = ("key", table.key) if table.key else ("values", self.sink.own)
        known = f"SELECT k.{kept} FROM safepoint.stash k WHERE k.relation = {name} AND k.action <> 'truncate'"
        run(connection, f"DELETE FROM pg_temp.sp_beside b WHERE {as_object('b', key)} IN ({known})")
        connection.execute("DELETE FROM pg_temp.sp_beside WHERE _sp_n = ANY(%s)", [self._told(groups)])
        said = ", ".join(f"{short(self.rule.old)}.{one}" for one in self.made)
        reason = f"nobody wrote to it: of the rows that {said} is made of, the old schema has a place for others"
        last = f"(SELECT max(_sp_tx) FROM {stage})"
        row = f"{as_object('b', table.key)}, {as_object('b', self.sink.own)}, {TRANSACTION}"
        rows = f"FROM pg_temp.sp_beside b JOIN pg_temp.{TRANSACTIONS} t ON t.tx = {last}"
        place = place_by(as_object("b", table.key)) if table.key else "NULL::int8"
        run(
            connection,
            f"INSERT INTO safepoint.stash (relation, action, key, values, xid, commit_lsn, committed_at, place) "
            f"SELECT {name}, 'update', {row}, {place} {rows}",
        )
        return run(
            connection,
            f"INSERT INTO safepoint.put_aside (relation, action, kind, reason, key, values, xid, commit_lsn, "
            f"committed_at, kept, read) SELECT {name}, 'update', '{KIND}', {literal(reason)}, {row}, true, true {rows}",
        )

    def _told(self, groups: Sequence[tuple[Any, ...]]) -> list[int]:
        """Those of which the twin's values tell: without one of them they would be others."""
        if not self.sink.table.key:
            return []  # nobody can leave out a single one
        keys = ", ".join(f"b.{quote(one)}" for one in self.names)
        ranked = f"SELECT b._sp_n, row_number() OVER (PARTITION BY b._sp_at ORDER BY b._sp_n) AS rank, b._sp_at, {keys}"
        query = f"SELECT * FROM ({ranked} FROM pg_temp.sp_beside b) r WHERE rank <= {_MOST} ORDER BY rank"
        by_rank: dict[int, list[tuple[Any, ...]]] = {}
        for n, rank, at, *key in ask(self.connection, query):
            by_rank.setdefault(rank, []).append((n, at, key))
        found: list[int] = []
        if by_rank:
            now = self._values(groups, ())
            for rows in by_rank.values():
                without = self._values(groups, [key for _, _, key in rows])
                found += [n for n, at, _ in rows if at in now and at in without and now[at] != without[at]]
        return found

    def _values(self, groups: Sequence[tuple[Any, ...]], without: Sequence[Sequence[str]]) -> _Values:
        """What the mappers make of these rows of the mapped table, were those not there; nothing where they fail. A
        mapper that names the schema sees them all the same: then they are told, though it may have told of them."""
        table, by_name = self.sink.table, self.sink.table.by_name
        query, given = values_of(self.parent, self.key.parent_columns, [*self.made.values()], groups), ""
        if without:
            arrays = ", ".join(f"{literal(list(column))}::text[]" for column in zip(*without, strict=True))
            places = ", ".join(f"k{place}" for place in range(len(self.names)))
            same = " AND ".join(
                f"t.{quote(one)} = g.k{place}::{by_name[one].type}" for place, one in enumerate(self.names)
            )
            given = (
                f"WITH {quote(table.relation)} AS NOT MATERIALIZED (SELECT * FROM {rows_of(table)} t "
                f"WHERE NOT EXISTS (SELECT FROM unnest({arrays}) g({places}) WHERE {same})) "
            )
        try:
            with self.migrated.transaction():
                return {row[0]: row[1:] for row in ask(self.migrated, given + query)}
        except psycopg.DatabaseError as error:
            if not is_unmade(error):
                raise
            return {}
