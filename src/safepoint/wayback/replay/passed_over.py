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
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.mapping.mapping import TableRule, short
from safepoint.wayback.mapping.reading import Readings
from safepoint.wayback.replay.filling import PIECE, bring, values_of
from safepoint.wayback.replay.staged import TRANSACTIONS, Sink
from safepoint.wayback.replay.stashing import TRANSACTION, as_object, place_by
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import rows_of

KIND: Final = "passed over"
_TRIED: Final = 500
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
        reading = readings.of.get(rule.new) if rule.new in readings.made else None
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
        run(self.connection, "DROP TABLE IF EXISTS pg_temp.sp_beside")
        columns = "".join(f", {quote(one)} text" for one in self.sink.own)
        numbers = "_sp_n int8 GENERATED ALWAYS AS IDENTITY, _sp_at int8, _sp_rank int8"
        run(self.connection, f"CREATE TEMP TABLE sp_beside ({numbers}{columns}) ON COMMIT DROP")
        self._bring()
        stage, name = f"pg_temp.{self.sink.stage}", literal(self.sink.table.name)
        key = as_object("s", self.names)
        run(self.connection, f"DELETE FROM pg_temp.sp_beside s WHERE {key} IN (SELECT {key} FROM {stage} s)")
        forgotten = self._forget(key)
        kept = "key" if self.sink.table.key else "values"
        known = f"SELECT k.{kept} FROM safepoint.stash k WHERE k.relation = {name} AND k.action <> 'truncate'"
        run(self.connection, f"DELETE FROM pg_temp.sp_beside s WHERE {key} IN ({known})")
        run(self.connection, "ANALYZE pg_temp.sp_beside")
        self._leave_out_told()
        return self._note() - forgotten

    def _forget(self, key: str) -> int:
        """What an earlier replay had passed over, and was written to since, or stands beside what was: the one is told
        for itself, the other looked at again."""
        passed = f"relation = {literal(self.sink.table.name)} AND kind = '{KIND}'"
        here = f"SELECT {key} FROM pg_temp.{self.sink.stage} s UNION SELECT {key} FROM pg_temp.sp_beside s"
        line = "k.key" if self.sink.table.key else "k.values"
        those = f"SELECT {line.replace('k.', 'p.')} FROM safepoint.put_aside p WHERE {passed}"
        again = f"{line} IN ({those}) AND {line} IN (SELECT {key} FROM pg_temp.sp_beside s)"
        run(
            self.connection,
            f"DELETE FROM safepoint.stash k WHERE k.relation = {literal(self.sink.table.name)} AND {again}",
        )
        return run(self.connection, f"DELETE FROM safepoint.put_aside k WHERE {passed} AND {line} IN ({here})")

    def _bring(self) -> None:
        """All rows beside those that were written to, but of what was put aside: that has in the twin what it had."""
        own = [f"s.{quote(one)}" for one in self.key.columns]
        filled = " AND ".join(f"{one} IS NOT NULL" for one in own)
        names = ", ".join(map(literal, self.key.parent_columns))
        aside = f"SELECT p.key FROM safepoint.put_aside p WHERE p.relation = {literal(self.rule.old)}"
        groups = (
            f"SELECT row_number() OVER (), * FROM (SELECT DISTINCT {', '.join(own)} FROM pg_temp.{self.sink.stage} s "
            f"WHERE {filled} AND jsonb_object(ARRAY[{names}], ARRAY[{', '.join(own)}]) NOT IN ({aside})) g"
        )
        into = f"pg_temp.sp_beside (_sp_at, {', '.join(map(quote, self.sink.own))})"
        with self.connection.cursor("sp_groups") as cursor:
            cursor.execute(sql.SQL(groups))
            while piece := cursor.fetchmany(PIECE):
                query = values_of(self.sink.table, self.key.columns, self.sink.own, piece)
                bring(self.connection, self.migrated, query, into)

    def _note(self) -> int:
        table, stage = self.sink.table, f"pg_temp.{self.sink.stage}"
        said = ", ".join(f"{short(self.rule.old)}.{one}" for one in self.made)
        reason = f"nobody wrote to it: of the rows that {said} is made of, the old schema has a place for others"
        row = f"{as_object('b', table.key)}, {as_object('b', self.sink.own)}, {TRANSACTION}"
        last = f"(SELECT max(_sp_tx) FROM {stage})"
        rows = f"FROM pg_temp.sp_beside b JOIN pg_temp.{TRANSACTIONS} t ON t.tx = {last}"
        place = place_by(as_object("b", table.key)) if table.key else "NULL::int8"
        name = literal(table.name)
        run(
            self.connection,
            f"INSERT INTO safepoint.stash (relation, action, key, values, xid, commit_lsn, committed_at, place) "
            f"SELECT {name}, 'update', {row}, {place} {rows}",
        )
        return run(
            self.connection,
            f"INSERT INTO safepoint.put_aside (relation, action, kind, reason, key, values, xid, commit_lsn, "
            f"committed_at, kept, read) SELECT {name}, 'update', '{KIND}', {literal(reason)}, {row}, true, true {rows}",
        )

    def _leave_out_told(self) -> None:
        """Those of which the twin's values tell: without one of them they would be others."""
        names = [f"b.{quote(one)}" for one in self.names]
        named = names if self.sink.table.key else [f"ARRAY[{', '.join(names)}]::text"]
        columns = ", ".join([*(f"b.{quote(one)}" for one in self.key.columns), *named])
        ranked = "SELECT _sp_n, row_number() OVER (PARTITION BY _sp_at ORDER BY _sp_n) AS rank FROM pg_temp.sp_beside"
        run(
            self.connection,
            f"UPDATE pg_temp.sp_beside b SET _sp_rank = r.rank FROM ({ranked}) r WHERE r._sp_n = b._sp_n",
        )
        width = len(self.key.columns)
        for place in range(1, _MOST + 1):
            with self.connection.cursor("sp_ranked") as cursor:
                rows = f"SELECT b._sp_n, {columns} FROM pg_temp.sp_beside b WHERE b._sp_rank = {place}"
                cursor.execute(sql.SQL(rows))
                found = 0
                while piece := cursor.fetchmany(_TRIED):
                    found += len(piece)
                    groups = [(n, *row[:width]) for n, *row in piece]
                    now = self._values(groups, ())
                    without = self._values(groups, [row[width:] for _, *row in piece])
                    told = [n for n in now if n in without and now[n] != without[n]]
                    self.connection.execute("UPDATE pg_temp.sp_beside SET _sp_at = NULL WHERE _sp_n = ANY(%s)", [told])
            if not found:
                break
        run(self.connection, "DELETE FROM pg_temp.sp_beside WHERE _sp_at IS NULL")

    def _values(self, groups: Sequence[tuple[Any, ...]], without: Sequence[Sequence[str]]) -> _Values:
        """What the mappers make of these rows of the mapped table, were those not there; nothing where they fail. A
        mapper that names the schema sees them all the same: then they are told, though it may have told of them."""
        table, by_name = self.sink.table, self.sink.table.by_name
        query, given = values_of(self.parent, self.key.parent_columns, [*self.made.values()], groups), ""
        if without:
            given = f"WITH {quote(table.relation)} AS NOT MATERIALIZED (SELECT * FROM {rows_of(table)} t WHERE NOT ("
            if not table.key:
                texts = ", ".join(written(f"t.{quote(one)}") for one in self.names)
                given += f"ARRAY[{texts}]::text = ANY({literal([key[0] for key in without])}::text[]))) "
            elif len(self.names) == 1:  # looked up by hash, once for all rows of the mapped table
                (one,) = self.names
                those = literal([key[0] for key in without])
                given += f"t.{quote(one)} = ANY({those}::{by_name[one].type}[]))) "
            else:
                columns = zip(self.names, zip(*without, strict=True), strict=True)
                arrays = ", ".join(f"{literal(list(values))}::{by_name[one].type}[]" for one, values in columns)
                given += (
                    f"({', '.join(f't.{quote(one)}' for one in self.names)}) IN (SELECT * FROM unnest({arrays})))) "
                )
        try:
            with self.migrated.transaction():
                return {row[0]: row[1:] for row in ask(self.migrated, given + query)}
        except psycopg.DatabaseError as error:
            if not is_unmade(error):
                raise
            return {}
