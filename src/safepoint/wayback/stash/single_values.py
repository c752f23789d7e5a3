"""Stashed values set in rows that were carried back, and went through the next migration again.

A value is set where the row still is what it was when it was stashed, or where the column has its default still: that
says nothing of a column which mappers read, for the migration fills it by what the old release has; of a row whose
changes were put aside, where the column has the value still that it had then.

`pg_temp.sp_stash` holds what is to be attached, `pg_temp.sp_left` takes what cannot be: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table, Unique
from safepoint.wayback.mapping.expressions import literal, mentions, quote, written
from safepoint.wayback.replay.statements import ask, attempt, failing, run
from safepoint.wayback.replay.work import refers, rows_of
from safepoint.wayback.stash.column_defaults import ColumnDefaults
from safepoint.wayback.stash.meeting import meet
from safepoint.wayback.stash.numbers import counts_places
from safepoint.wayback.stash.rivals import RIVAL, put_aside_rivals
from safepoint.wayback.stash.stash import StashedTable
from safepoint.wayback.stash.whole_rows import exchange, given, orphaned, settable

UNASKED: Final = (
    "nobody knows whether the row is what it was: a mapper of its table asks for what is not here (old.x, a function "
    "that is gone)"
)


ANOTHER: Final = "the row is not what it was: its key counts places, so it may be another one"


class SingleValues:
    """The values of one table's rows; `told` is what the newest stash says of it, `columns` are those that were set."""

    def __init__(
        self, connection: Connection, catalogue: Catalogue, table: Table, told: StashedTable, defaults: ColumnDefaults
    ) -> None:
        self.connection, self.catalogue, self.table, self.told = connection, catalogue, table, told
        self.defaults = defaults
        self.columns: Set[str] = frozenset()
        self.changed = self.already = 0

    def attach(self) -> None:
        """Set them; what cannot be set goes to `sp_left` with its reason."""
        connection, name = self.connection, literal(self.table.name)
        self.columns, self.changed, self.already = frozenset(), 0, 0  # it may be tried again
        meet(connection, self.table, self.told)
        run(connection, "CREATE INDEX ON pg_temp.sp_met (n)")
        run(
            connection,
            f"INSERT INTO pg_temp.sp_left SELECT {name}, key, '*', coalesce(bad, 'the row is not there any more'), "
            f"vals::text FROM pg_temp.sp_met WHERE tid IS NULL OR bad IS NOT NULL",
        )
        run(connection, "DELETE FROM pg_temp.sp_met WHERE tid IS NULL OR bad IS NOT NULL")
        names = ask(connection, "SELECT DISTINCT k FROM pg_temp.sp_met, jsonb_object_keys(vals) k ORDER BY 1")
        # All decisions come before all changes: a changed row has another place.
        plans = [self._column(str(one)) for (one,) in names]
        wanted = [column for column in plans if column is not None]
        if wanted:
            self._whole(wanted)
            self._rivals(wanted)
            self.columns = {column.name for column in wanted}
            self._set(wanted)

    def _whole(self, columns: Sequence[Column]) -> None:
        """Half of a change that was put aside could be what nobody wrote."""
        for column in columns:
            has = f"m.vals ? {literal(column.name)} AND (m.joined OR m.was ? {literal(column.name)})"
            self._refuse(column.name, f"{has} AND m.torn", "another value of the same change could not be set")

    def _rivals(self, columns: Sequence[Column]) -> None:
        """What another row has, and only one may have."""
        values = {one.name: given(one) for one in columns}

        def refuse(unique: Unique, reason: str) -> None:
            for name in (one for one in unique.columns if one in values):
                self._refuse(name, f"{RIVAL} AND m.vals ? {literal(name)}", reason)
            self._whole(columns)

        put_aside_rivals(self.connection, self.table, values, "m.vals <> '{}'", refuse)

    def _column(self, name: str) -> Column | None:
        """Decide about one column; what cannot be set is told, and taken out of the values."""
        connection, table, column = self.connection, self.table, self.table.by_name.get(name)
        if column is None or column.generated:
            self._refuse(name, f"vals ? {literal(name)}", "the new schema has no such column any more")
            return None
        value = f"m.vals ->> {literal(name)}"
        known = f"FROM {rows_of(table)} t WHERE t.ctid = m.tid AND t.tableoid = m.rel"
        now = f"(SELECT {written(f't.{quote(name)}')} {known})"
        has = f"m.vals ? {literal(name)}"
        equal = f"{has} AND {now} IS NOT DISTINCT FROM {value}"
        self.already += run(connection, f"UPDATE pg_temp.sp_met m SET vals = vals - {literal(name)} WHERE {equal}")
        usual = " OR ".join(f"{now} IS NOT DISTINCT FROM {one}" for one in self.defaults.usual(table, column))
        if counts_places(table, self.told.key):
            usual = "false"
        elif any(mentions(mapper, name) for mapper in self.told.mapped.values()):
            usual = f"coalesce(m.as_made, false) AND ({usual})"
        newer = (
            f"CASE WHEN m.was ? {literal(name)} THEN {now} IS DISTINCT FROM m.was ->> {literal(name)} "
            f"ELSE NOT (m.same OR {usual}) END"
        )
        unasked = f"m.as_made IS NULL AND NOT coalesce(m.was ? {literal(name)}, false)"
        self._refuse(name, f"{has} AND {unasked} AND {newer}", UNASKED)
        places = counts_places(table, self.told.key)
        self._refuse(name, f"{has} AND {newer}", ANOTHER if places else "the row has a newer value")
        self._needed(name, has)
        for condition, reason in orphaned(table, name, self.catalogue):
            self._refuse(name, f"{has} AND {condition}", reason)
        return column

    def _needed(self, name: str, has: str) -> None:
        """Rows whose present value others name: it stays, or these would name nothing."""
        table = self.table
        for child in self.catalogue.tables.values():
            for key in child.foreign_keys:
                if key.parent == table.name and name in key.parent_columns and not key.period:
                    named = (
                        f"{has} AND EXISTS (SELECT FROM {rows_of(table)} t JOIN {rows_of(child)} c "
                        f"ON {refers(key, 't', 'c')} WHERE t.ctid = m.tid AND t.tableoid = m.rel)"
                    )
                    self._refuse(name, named, f"rows of {child.relation} refer to the present value")

    def _refuse(self, name: str, condition: str, reason: str) -> None:
        told = f"{literal(self.table.name)}, m.key, {literal(name)}, {literal(reason)}, m.vals ->> {literal(name)}"
        run(self.connection, f"INSERT INTO pg_temp.sp_left SELECT {told} FROM pg_temp.sp_met m WHERE {condition}")
        run(
            self.connection,
            f"UPDATE pg_temp.sp_met m SET vals = vals - {literal(name)}, "
            f"torn = torn OR joined OR coalesce(was ? {literal(name)}, false) WHERE {condition}",
        )

    def _set(self, columns: Sequence[Column]) -> None:
        pairs = ", ".join(f"{quote(one.name)} = {given(one)}" for one in columns)
        statement = (
            f"UPDATE {rows_of(self.table)} t SET {pairs} FROM pg_temp.sp_met m "
            f"WHERE t.ctid = m.tid AND t.tableoid = m.rel AND m.vals <> '{{}}'"
        )
        with settable(self.connection, self.table, columns):
            taken = attempt(self.connection, statement) is None or exchange(self.connection, self.table, columns)
            those = "SELECT n FROM pg_temp.sp_met WHERE vals <> '{}'"
            bad = [] if taken else failing(self.connection, statement, those, "m.n")
        for n, said in bad:
            self.connection.execute(
                "INSERT INTO pg_temp.sp_left SELECT %s, key, '*', %s, vals::text FROM pg_temp.sp_met WHERE n = %s",
                [self.table.name, said, n],
            )
        gone = [n for n, _ in bad]
        row = self.connection.execute(
            "SELECT count(*) FROM pg_temp.sp_met, jsonb_object_keys(vals) WHERE n <> ALL(%s)", [gone]
        ).fetchone()
        self.changed += int(row[0]) if row else 0
