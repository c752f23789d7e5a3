"""Stashed rows written whole: into a table that the migration made, or into one that was there before, where the old
schema could not hold them.

`pg_temp.sp_stash` holds what is to be attached, `pg_temp.sp_left` takes what cannot be: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, ForeignKey, Table
from safepoint.wayback.mapping.expressions import FILLED, literal, quote, written
from safepoint.wayback.mapping.periods import covered, covered_by
from safepoint.wayback.mapping.tenants import TENANT, lists_tenants
from safepoint.wayback.replay.statements import REFUSED, ask, failing, run
from safepoint.wayback.replay.work import quoted, refers, rows_of
from safepoint.wayback.stash.column_defaults import ColumnDefaults
from safepoint.wayback.stash.numbers import TAKEN, alike, like_one, lost_to, numbered, refers_to_taken
from safepoint.wayback.stash.rivals import RIVAL, put_aside_rivals
from safepoint.wayback.stash.spelling import may_differ
from safepoint.wayback.stash.standing import restore, supersede

# The rows that this transaction wrote, within a savepoint or not; a frozen row's age is the greatest there is.
WRITTEN: Final = "age(c.xmin) <= age(pg_current_xact_id()::xid)"

ANEW: Final = "what it said was given to the old release, and the migration has made rows of that"
NOT_ANEW: Final = "the migration has made rows of what the old release was given, and none like this one"
GONE_ANEW: Final = "it was deleted, and the migration has made rows of what the old release was given since"


class WholeRows:
    """The whole rows of one table.

    Args:
        key: the columns by which the rows were stashed; the table may have another key by now, or none.
        made: this migration made the table.
        defaults: for columns that were not there when the rows were stashed.
        careful: deletions wait for `remove`.
        coming: tables whose rows are written after these, as tables may refer to each other in a circle.
        anew: the migration made its rows of what mappers had made of these, and nobody knows which of which.
    """

    def __init__(
        self,
        connection: Connection,
        catalogue: Catalogue,
        table: Table,
        key: Sequence[str],
        made: bool,
        defaults: ColumnDefaults,
        careful: bool = False,
        coming: Collection[str] = (),
        anew: bool = False,
    ) -> None:
        self.connection, self.catalogue, self.table, self.key, self.made = connection, catalogue, table, key, made
        self.defaults, self.careful, self.coming = defaults, careful, coming
        self.anew = anew
        self.columns = list(table.written)
        self.changed = self.already = 0

    def attach(self) -> None:
        """Write them, parents of theirs first; what cannot be written goes to `sp_left` with its reason."""
        connection, table = self.connection, self.table
        self.changed = self.already = 0  # it may be tried again
        self._truncate()
        run(connection, "DROP TABLE IF EXISTS pg_temp.sp_met")
        equal = " AND ".join(
            f"(NOT s.vals ? {literal(c.name)} OR {written(f't.{quote(c.name)}')} IS NOT DISTINCT FROM "
            f"s.vals ->> {literal(c.name)})"
            for c in self.columns
        )
        run(
            connection,
            f"CREATE TEMP TABLE sp_met ON COMMIT DROP AS SELECT s.n, s.key, s.vals, s.bad, s.action, t.ctid AS tid, "
            f"t.tableoid AS rel, coalesce({equal or 'true'}, false) AS equal, {alike(table, self.key)} AS alike, "
            f"false AS kept FROM pg_temp.sp_stash s "
            f"LEFT JOIN {rows_of(table)} t ON {match(table, self.key)} "
            f"WHERE s.relation = {literal(table.name)} AND s.whole",
        )
        run(connection, "CREATE INDEX ON pg_temp.sp_met (n)")
        if self.anew:
            supersede(connection, table, self.key)
        self._drop("action = 'delete' AND tid IS NULL AND key <> '{}' AND bad IS NULL")
        self._drop("action <> 'delete' AND tid IS NOT NULL AND equal AND bad IS NULL")
        if self.made and numbered(table, self.key):
            self._taken()
        self._refuse("bad IS NOT NULL", "bad")
        if self.anew:
            self._made_anew()
        if not self.made:
            self._refuse("action = 'delete'", "'it was there before this launch, and may be needed'")
            self._refuse("tid IS NOT NULL", "'a row of this key is there, with other values'")
            self._refuse("action = 'update'", "'the row is not there any more'")
        known = {column.name for column in self.columns}
        lost = ", ".join(literal(name) for name in sorted(known)) or "''"
        self._refuse(
            f"EXISTS (SELECT FROM jsonb_object_keys(vals) k WHERE k <> ALL(ARRAY[{lost}]))",
            "'it has columns that the new schema has no longer'",
        )
        self._orphans()
        if self.careful:
            run(connection, "INSERT INTO pg_temp.sp_later SELECT n FROM pg_temp.sp_met WHERE action = 'delete'")
        else:
            self.changed += run(
                connection,
                f"DELETE FROM {rows_of(table)} t USING pg_temp.sp_met m "
                f"WHERE t.ctid = m.tid AND t.tableoid = m.rel AND m.action = 'delete'",
            )
        run(connection, "DELETE FROM pg_temp.sp_met WHERE action = 'delete'")
        values = {column.name: self._coming(column) for column in self.columns}
        put_aside_rivals(connection, table, values, "true", lambda _, reason: self._refuse(RIVAL, literal(reason)))
        self._update()
        self._insert()

    def remove(self) -> int:
        """Remove what waited for it, as far as nothing refers to it by now; the others are told. Gives how many."""
        table, removed = self.table, 0
        needed = {
            f"EXISTS (SELECT FROM {rows_of(child)} c WHERE {refers(key, 't', 'c')})": child.relation
            for child in self.catalogue.tables.values()
            for key in child.foreign_keys
            if key.parent == table.name and not key.period
        }
        which = (
            f"s.relation = {literal(table.name)} AND s.n IN (SELECT n FROM pg_temp.sp_later) "
            f"AND {match(table, self.key)}"
        )
        free = " AND ".join(f"NOT {one}" for one in needed) or "true"
        while found := run(
            self.connection, f"DELETE FROM {rows_of(table)} t USING pg_temp.sp_stash s WHERE {which} AND {free}"
        ):
            removed += found  # one of them may have referred to another
        whose = " ".join(f"WHEN {one} THEN {literal(f'rows of {name} refer to it')}" for one, name in needed.items())
        if whose:
            run(
                self.connection,
                f"INSERT INTO pg_temp.sp_left SELECT s.relation, s.key, '*', CASE {whose} END, s.vals::text "
                f"FROM pg_temp.sp_stash s, {rows_of(table)} t WHERE {which}",
            )
        return removed

    def _truncate(self) -> None:
        """The table was emptied on the new release: what the migration puts into it goes again."""
        leaves = ", ".join(literal(name) for name in (self.table.name, *self.table.leaves))
        emptied = ask(
            self.connection,
            f"SELECT EXISTS (SELECT FROM pg_temp.sp_lines WHERE line ->> 'action' = 'truncate' "
            f"AND line ->> 'relation' IN ({leaves}))",
        )[0][0]
        if emptied and self.made and not self.anew:
            self.changed += run(self.connection, f"DELETE FROM {rows_of(self.table)}")

    def _taken(self) -> None:
        """Rows that the migration made stay; where nobody knows which of them a stashed one is, it is all of these."""
        which = "m.tid IS NOT NULL AND NOT m.alike AND m.action <> 'delete'"
        known = f"SELECT FROM pg_temp.sp_made x WHERE x.relation = {literal(self.table.name)}"
        number = f"m.key ->> {literal(self.key[0])}"
        # Of these it is known, and so is what refers to them.
        which += (
            f" AND NOT EXISTS ({known} AND {number} IN (x.key, x.now))" if self.anew else " AND m.action = 'insert'"
        )
        taken = f"SELECT {literal(self.table.name)}, m.vals FROM pg_temp.sp_met m WHERE {which}"
        run(self.connection, f"INSERT INTO pg_temp.sp_taken {taken}")
        if not self.anew:
            self._refuse(which, literal(TAKEN))

    def _made_anew(self) -> None:
        """What the migration has made again is there; of the rest it is said what the old release could not be given.
        Only by what but one row may have, beside its number, is a row known to be like another."""
        others = [column for column in self.columns if column.name not in self.key]
        same = " AND ".join(
            f"{written(f't.{quote(one.name)}')} IS NOT DISTINCT FROM m.vals ->> {literal(one.name)}" for one in others
        )
        self.already += restore(self.connection, self.table, self.key, same or "true")
        self._refuse("action = 'delete'", literal(GONE_ANEW))
        if like := like_one(self.table, self.key):
            there = f"SELECT FROM {rows_of(self.table)} t WHERE ({like})"
            self._drop(f"EXISTS ({there} AND {same})")
            self._refuse(f"NOT kept AND NOT EXISTS ({there})", literal(NOT_ANEW))
        self._refuse("NOT kept", literal(ANEW))

    def _drop(self, condition: str) -> None:
        self.already += run(self.connection, f"DELETE FROM pg_temp.sp_met m WHERE {condition}")

    def _refuse(self, condition: str, reason: str) -> int:
        run(
            self.connection,
            f"INSERT INTO pg_temp.sp_left SELECT {literal(self.table.name)}, key, '*', {reason}, vals::text "
            f"FROM pg_temp.sp_met m WHERE {condition}",
        )
        return run(self.connection, f"DELETE FROM pg_temp.sp_met m WHERE {condition}")

    def _orphans(self) -> None:
        """Rows whose parent is not there; a parent may come with them. Again and again until none is found."""
        checks = []
        for key in self.table.foreign_keys:
            parent = self.catalogue.tables[key.parent]
            if any(name not in {column.name for column in self.columns} for name in key.columns):
                continue
            pairs = list(zip(key.columns, key.parent_columns, strict=True))
            given = " AND ".join(f"m.vals ->> {literal(own)} IS NOT NULL" for own, _ in pairs)
            values = {own: f"(m.vals ->> {literal(own)})::{parent.by_name[other].type}" for own, other in pairs}
            if key.period:
                there = covered_by(key, values, rows_of(parent))
            else:
                same = " AND ".join(f"p.{quote(other)} = {values[own]}" for own, other in pairs)
                there = f"EXISTS (SELECT FROM {rows_of(parent)} p WHERE {same})"
            condition = f"m.action <> 'delete' AND {given} AND NOT {there}"
            if key.parent == self.table.name or key.parent in self.coming:
                coming = " AND ".join(
                    f"o.vals ->> {literal(other)} = m.vals ->> {literal(own)}" for own, other in pairs
                )
                rows = "pg_temp.sp_met o WHERE"
                if key.parent != self.table.name:
                    rows = (
                        f"pg_temp.sp_stash o WHERE o.relation = {literal(key.parent)} AND o.whole AND o.bad IS NULL AND"
                    )
                condition += f" AND NOT EXISTS (SELECT FROM {rows} o.action <> 'delete' AND {coming})"
            checks.append((condition, literal(f"the row of {parent.relation} that it refers to is not there")))
            if not key.period:
                taken = f"m.action <> 'delete' AND {given} AND {refers_to_taken(key, parent, values)}"
                checks.append((taken, literal(lost_to(parent))))
        if lists_tenants(self.catalogue, self.table):
            there = f"SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = m.vals ->> {literal(TENANT)}"
            condition = f"m.action <> 'delete' AND m.tid IS NULL AND NOT EXISTS ({there})"
            checks.append((condition, literal("there is no schema of that name: it is in the kept database alone")))
        while sum(self._refuse(condition, reason) for condition, reason in checks):
            pass

    def _value(self, column: Column, otherwise: str = "NULL") -> str:
        value = f"(m.vals ->> {literal(column.name)})::{column.type}"
        return f"CASE WHEN m.vals ? {literal(column.name)} THEN {value} ELSE {otherwise} END"

    def _coming(self, column: Column) -> str:
        new = self._value(column, self.defaults.filled(self.table, column))
        return f"CASE WHEN m.tid IS NULL THEN {new} ELSE {given(column)} END"

    def _update(self) -> None:
        columns = [column for column in self.columns if column.name not in self.key or may_differ(column)]
        if not columns:
            return
        pairs = ", ".join(f"{quote(one.name)} = {given(one)}" for one in columns)
        statement = (
            f"UPDATE {rows_of(self.table)} t SET {pairs} FROM pg_temp.sp_met m "
            f"WHERE t.ctid = m.tid AND t.tableoid = m.rel"
        )
        with settable(self.connection, self.table, columns):
            self._tried(statement, "tid IS NOT NULL")

    def _insert(self) -> None:
        names = ", ".join(quote(column.name) for column in self.columns)
        values = ", ".join(self._value(column, self.defaults.filled(self.table, column)) for column in self.columns)
        statement = (
            f"INSERT INTO {quoted(self.table)} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} "
            f"FROM pg_temp.sp_met m WHERE m.tid IS NULL"
        )
        self._tried(statement, "tid IS NULL")

    def _tried(self, statement: str, which: str) -> None:
        """All at once; where PostgreSQL refuses, row by row, and what fails is told."""
        for n, said in failing(self.connection, statement, f"SELECT n FROM pg_temp.sp_met WHERE {which}", "m.n"):
            self._refuse(f"n = {n}", literal(said))
        self.changed += run(self.connection, f"DELETE FROM pg_temp.sp_met WHERE {which}")


def given(column: Column) -> str:
    """What a row `t` is going to have in a column: the stashed value of `m`, where there is one."""
    name = literal(column.name)
    return f"CASE WHEN m.vals ? {name} THEN (m.vals ->> {name})::{column.type} ELSE t.{quote(column.name)} END"


def exchange(connection: Connection, table: Table, columns: Sequence[Column]) -> bool:
    """Write the rows that have met anew, for they may exchange what only one may have; whether PostgreSQL took that."""
    values = {column.name: given(column) for column in columns}
    names = ", ".join(quote(column.name) for column in table.written)
    every = ", ".join(f"{values.get(one.name, f't.{quote(one.name)}')} AS {quote(one.name)}" for one in table.written)
    rows, met = rows_of(table), "t.ctid = m.tid AND t.tableoid = m.rel AND m.vals <> '{}'"
    try:
        with connection.transaction():
            made = f"CREATE TEMP TABLE sp_again ON COMMIT DROP AS SELECT {every} FROM {rows} t"
            run(connection, f"{made} JOIN pg_temp.sp_met m ON {met}")
            run(connection, f"DELETE FROM {rows} t USING pg_temp.sp_met m WHERE {met}")
            insertion = f"INSERT INTO {quoted(table)} ({names}) OVERRIDING SYSTEM VALUE"
            run(connection, f"{insertion} SELECT {names} FROM pg_temp.sp_again")
            run(connection, "DROP TABLE pg_temp.sp_again")
    except REFUSED:
        return False
    return True


def orphaned(table: Table, name: str, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """By foreign key of this column: whether the row that it would name by the stashed value of `m` is not there, and
    that as a reason. A key's other columns have what the row has, or is going to have."""
    for key in (one for one in table.foreign_keys if name in one.columns and not one.period):
        parent = catalogue.tables[key.parent]
        met = f"FROM {rows_of(table)} t WHERE t.ctid = m.tid AND t.tableoid = m.rel"
        values = [
            f"(m.vals ->> {literal(own)})::{parent.by_name[other].type}"
            if own == name
            else f"(SELECT {given(table.by_name[own])} {met})"
            for own, other in zip(key.columns, key.parent_columns, strict=True)
        ]
        filled = " AND ".join(f"{value} IS NOT NULL" for value in values)
        same = " AND ".join(
            f"p.{quote(other)} = {value}" for other, value in zip(key.parent_columns, values, strict=True)
        )
        condition = f"{filled} AND NOT EXISTS (SELECT FROM {rows_of(parent)} p WHERE {same})"
        yield condition, f"the row of {parent.relation} that it refers to is not there"
        by_own = dict(zip(key.columns, values, strict=True))
        yield f"{filled} AND {refers_to_taken(key, parent, by_own)}", lost_to(parent)


@contextmanager
def settable(connection: Connection, table: Table, columns: Sequence[Column]) -> Iterator[None]:
    """Numbers that PostgreSQL alone gives out (GENERATED ALWAYS AS IDENTITY) may be set meanwhile."""
    names = [column.name for column in columns if column.identity]
    always = (
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attidentity = 'a' AND attname = ANY(%s)"
    )
    found = [row[0] for row in connection.execute(always, [quoted(table), names]).fetchall()] if names else []
    alter = [f"ALTER TABLE {quoted(table)} ALTER COLUMN {quote(name)} SET GENERATED" for name in found]
    for one in alter:
        run(connection, f"{one} BY DEFAULT")
    yield
    for one in alter:
        run(connection, f"{one} ALWAYS")


def match(table: Table, key: Sequence[str]) -> str:
    """Which row of a table a stashed one is; without a key nobody knows."""
    return (
        "false"
        if not key
        else " AND ".join(f"t.{quote(name)} = (s.key ->> {literal(name)})::{table.by_name[name].type}" for name in key)
    )


def orphans(table: Table, key: ForeignKey, catalogue: Catalogue, which: str = "true") -> str:
    """A table's rows `c` whose parent is not there, of those that are asked for, for a FROM clause."""
    own = " AND ".join(f"c.{quote(name)} {FILLED}" for name in key.columns)
    parent = rows_of(catalogue.tables[key.parent])
    there = (
        covered(key, "c", parent) if key.period else f"EXISTS (SELECT FROM {parent} p WHERE {refers(key, 'p', 'c')})"
    )
    return f"(SELECT FROM {rows_of(table)} c WHERE {which} AND {own} AND NOT {there}) o"
