"""Mappers that read more than their row: a value that a migration moved into another table is read from there.

Such a value is computed in the migrated database, where all tables of the new schema stand, and comes to the twin as if
it were one more column of the row. It may change without a change of the row: so it matters which tables are read.
Nothing is changed here; what a mapper needs is what a view of it would, which is made and taken back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg import sql

from safepoint.errors import Refused
from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table
from safepoint.wayback.mapping.expressions import balanced, of_new, of_old, quote, text_of
from safepoint.wayback.mapping.mapping import ColumnRule, TableRule, WayBack

_VIEW: Final = "sp_needing"
_LACKING: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidSchemaName,
)
"""By which PostgreSQL says that a database has not what a mapper names."""

_LENT: Final = re.compile(
    r'coalesce\s*\(\s*old\s*\.\s*(?P<column>"(?:[^"]|"")+"|\w+)\s*,(?P<read>.*)\)', re.IGNORECASE | re.DOTALL
)
_OF_OLD: Final = re.compile(r"\bold\b")
# What the view needs, through views, to tables that inherit or are partitions, and to the functions of operators.
# PostgreSQL's own are never listed.
_NEEDS: Final = """
WITH RECURSIVE needs(class, id) AS (
    SELECT d.refclassid, d.refobjid FROM pg_depend d
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = 'pg_temp.sp_needing'::regclass
      AND NOT (d.refclassid = 'pg_class'::regclass AND d.refobjid = r.ev_class)
    UNION
    SELECT x.class, x.id FROM needs n CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid FROM pg_rewrite r
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE n.class = 'pg_class'::regclass AND r.ev_class = n.id AND r.ev_type = '1'
        UNION ALL
        SELECT n.class, i.inhrelid FROM pg_inherits i WHERE n.class = 'pg_class'::regclass AND i.inhparent = n.id
        UNION ALL
        SELECT 'pg_proc'::regclass::oid, o.oprcode::oid FROM pg_operator o
        WHERE n.class = 'pg_operator'::regclass AND o.oid = n.id) x(class, id)
)
SELECT s.nspname || '.' || c.relname, c.relpersistence <> 'u' AND pg_has_role(c.relowner, 'USAGE'), false
FROM needs n JOIN pg_class c ON n.class = 'pg_class'::regclass AND c.oid = n.id AND c.relkind IN ('r', 'p', 'f', 'm')
JOIN pg_namespace s ON s.oid = c.relnamespace
UNION ALL
SELECT p.oid::regprocedure::text, false, true
FROM needs n JOIN pg_proc p ON n.class = 'pg_proc'::regclass AND p.oid = n.id AND p.provolatile <> 'i'
WHERE NOT EXISTS (SELECT FROM pg_depend e
                  WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
"""
# The application's event triggers are not to look at the view, where we may say so.
_SILENT: Final = """
SELECT set_config('session_replication_role', 'replica', true) FROM pg_roles WHERE rolname = current_user AND rolsuper
"""
_KIND: Final = """
SELECT format_type(atttypid, atttypmod), format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = 'pg_temp.sp_needing'::regclass AND attnum = 1
"""


@dataclass(frozen=True)
class Reading:
    """What the values of one new table's rows are read from besides: these tables of the new schema.

    `unseen`: more than these, and no capture tells of a change there (a materialised view, a function's own queries).
    """

    tables: frozenset[str]
    unseen: bool = False

    def stirred(self, written: Collection[str]) -> bool:
        """Whether values may have changed where these tables were written to. Pure."""
        return self.unseen or not self.tables.isdisjoint(written)


@dataclass(frozen=True)
class Readings:
    """The way back with what is read computed in the migrated database, whose catalogue has a column for each value.

    `of`: by new table, what its values are read from. `made`: by new table and old column, the column of the value.
    `lent`: by new table, columns of which only a row that the old database does not have takes its value.
    `faults`: by old table, what no database can compute, and why.
    """

    mapping: WayBack
    new: Catalogue
    of: Mapping[str, Reading] = field(default_factory=dict)
    made: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lent: Mapping[str, Sequence[str]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)

    def columns(self, table: str) -> Collection[str]:
        """The columns of a new table that are mappers' values."""
        return (*self.made.get(table, {}).values(), *self.lent.get(table, ()))

    @property
    def read(self) -> frozenset[str]:
        """The tables of the new schema that mappers read."""
        return frozenset[str]().union(*(one.tables for one in self.of.values()))


def find_readings(
    connection: Connection, source: Connection, mapping: WayBack, old: Catalogue, new: Catalogue
) -> Readings:
    """Tell which mappers need the migrated database, and what they read there.

    A mapper stays with the twin where it can be computed there from what no replay writes to: then it means the old
    database's own (the ids of content types, a table that the new schema has no longer).

    Args:
        connection: the old database, in a transaction.
        source: the migrated database.
    """
    finding = _Finding(connection, source, mapping, old, new)
    rules = [finding.rule(rule) for rule in mapping.tables]
    if not finding.of and not finding.faults:
        return Readings(mapping, new)
    changed = replace(mapping, tables=tuple(rules)), replace(new, tables={**new.tables, **finding.tables})
    return Readings(*changed, finding.of, finding.made, finding.lent, finding.faults)


def read_tables(source: Connection, mapping: WayBack, new: Catalogue) -> frozenset[str]:
    """The tables of the new schema that mappers may read, where only the migrated database is there to ask."""
    return frozenset[str]().union(*readers(source, mapping, new).values())


def readers(source: Connection, mapping: WayBack, new: Catalogue) -> dict[str, frozenset[str]]:
    """The same by the new table whose mappers read them."""
    read: dict[str, frozenset[str]] = {}
    for rule in mapping.tables:
        found: set[str] = set()
        table = new.tables.get(rule.new)
        for one in rule.columns if table is not None else ():
            if table is not None and one.kind == "mapped":
                needs = _needs(source, lent(one) or str(one.expression), _row(table.columns))
                if isinstance(needs, _Needs):
                    found |= {root for name in needs.captured if (root := new.roots.get(name)) is not None}
        if found:
            read[rule.new] = frozenset(found)
    return read


def refuse_faults(readings: Readings) -> None:
    """Nothing may be carried where a mapper cannot be computed.

    Raises:
        Refused: one cannot.
    """
    for table, why in readings.faults.items():
        raise Refused(
            f"A mapper of {table} cannot be computed.",
            subject=table,
            found=why,
            remedy="Correct it in [wayback.tables] of the plan file, or roll back with --discard.",
        )


def lent(column: ColumnRule) -> str | None:
    """What a mapper reads of other tables for rows that the old database does not have: `coalesce(old.COLUMN, ...)`,
    by which the others keep their value. None where it has another form. Pure."""
    said = str(column.expression).strip()
    found = _LENT.fullmatch(said[1:-1].strip() if said.startswith("(") else said)
    own = (column.column, quote(column.column))
    if found is None or found["column"] not in own or not balanced(found["read"]):
        return None
    return f"coalesce({found['read']})"


def texts_of(table: Table, names: Iterable[str]) -> tuple[str, str]:
    """Values of the migrated row `new` as a list of texts, a comma before each, and the join that mappers need. Pure.

    OFFSET 0: what a mapper says is computed once a row.
    """
    columns = [table.by_name[name] for name in names]
    made = ", ".join(f"{one.made} AS {quote(one.name)}" for one in columns if one.made)
    join = f" LEFT JOIN LATERAL (SELECT {made} FROM (SELECT new.*) row_ OFFSET 0) made ON true" if made else ""
    values = [text_of(one, f"{'made' if one.made else 'new'}.{quote(one.name)}") for one in columns]
    return "".join(f", {value}" for value in values), join


@dataclass(frozen=True)
class _Needs:
    """Of a mapper in one database: its type, the relations that it reads (`captured` ones, and others), and functions
    that may read any."""

    type: str
    base: str
    captured: frozenset[str]
    others: frozenset[str]
    functions: frozenset[str]


class _Finding:
    def __init__(
        self, connection: Connection, source: Connection, mapping: WayBack, old: Catalogue, new: Catalogue
    ) -> None:
        self.connection, self.source, self.old, self.new = connection, source, old, new
        self.fed = {rule.old for rule in mapping.tables}
        self.tables: dict[str, Table] = {}
        self.of: dict[str, Reading] = {}
        self.made: dict[str, dict[str, str]] = {}
        self.lent: dict[str, list[str]] = {}
        self.faults: dict[str, str] = {}

    def rule(self, rule: TableRule) -> TableRule:
        """The rule, its mappers that need the migrated database replaced by columns; these go to `tables` and `of`."""
        old, new = self.old.tables.get(rule.old), self.new.tables.get(rule.new)
        if old is None or new is None or not any(one.kind == "mapped" for one in rule.columns):
            return rule
        columns = tuple(self._column(one, rule, old, new) if one.kind == "mapped" else one for one in rule.columns)
        return replace(rule, columns=columns)

    def _column(self, column: ColumnRule, rule: TableRule, old: Table, new: Table) -> ColumnRule:
        expression = str(column.expression)
        ours = self._twins(expression, old, new)
        if ours is None:
            return column
        read = lent(column)
        theirs = _needs(self.source, read or expression, _row(new.columns))
        if isinstance(theirs, psycopg.Error):
            if isinstance(ours, _Needs) and not self._fed(ours):
                return column  # by a function that only the twin has
            self.faults.setdefault(rule.old, self._fault(column.column, ours, theirs))
            return column
        if not rule.key:
            said = f"{column.column} cannot be read from {_listed(theirs)}, for rows without a key are not found there"
            self.faults.setdefault(rule.old, said)
            return column
        table = self.tables.get(rule.new, new)
        name = _free(table)
        value = Column(name, theirs.type, theirs.base, False, made=read or expression)
        if read is None:
            self.made.setdefault(rule.new, {})[column.column] = name
        else:
            self.lent.setdefault(rule.new, []).append(name)
        self.tables[rule.new] = replace(table, columns=(*table.columns, value))
        known = {one: self.new.roots.get(one) for one in theirs.captured}
        before = self.of.get(rule.new, Reading(frozenset()))
        self.of[rule.new] = Reading(
            before.tables | {root for root in known.values() if root is not None},
            before.unseen or None in known.values() or bool(theirs.others or theirs.functions),
        )
        found = of_new(name) if read is None else f"coalesce({of_old(column.column)}, {of_new(name)})"
        return replace(column, expression=f"({found})")

    def _twins(self, expression: str, old: Table, new: Table) -> _Needs | psycopg.Error | None:
        """What it needs in the twin; None where it is to be computed there. An error says what the twin lacks."""
        known = _known(self.connection, [one.type for one in (*new.columns, *old.columns)])
        staged = [one for one in new.columns if not one.generated]
        rows = f"{_row(staged, known)} new LEFT JOIN (SELECT NULL::tid AS ctid{_nulls(old.columns, known)})"
        found = _needs(self.connection, expression, rows, "old ON true")
        if isinstance(found, psycopg.Error):
            return found if isinstance(found, _LACKING) else None
        return found if self._fed(found) or found.functions else None

    def _fed(self, needs: _Needs) -> list[str]:
        """Those of the twin's tables that a replay itself writes to."""
        roots = {self.old.roots.get(one, one) for one in (*needs.captured, *needs.others)}
        return sorted(roots & self.fed)

    def _fault(self, column: str, ours: _Needs | psycopg.Error, theirs: psycopg.Error) -> str:
        said = _said(theirs)
        if isinstance(theirs, psycopg.errors.UndefinedTable) and _OF_OLD.search(said):
            form = f"coalesce(old.{column}, ...)"
            return f"{column}: where other tables are read, `old` is known in the form {form} alone"
        if isinstance(ours, psycopg.Error):
            lacks = _said(ours)
            return f"{column}: {lacks}" + ("" if said == lacks else f"; and in the migrated database: {said}")
        return (
            f"{column} reads {', '.join(self._fed(ours))}, which a rollback writes to itself, and it cannot be "
            f"computed in the migrated database: {said}"
        )


def _needs(connection: Connection, expression: str, rows: str, alias: str = "new") -> _Needs | psycopg.Error:
    """What a mapper needs, or why a database cannot compute it. `rows`: what `new` is, and what else is in scope."""
    view = (
        f"CREATE TEMP VIEW {_VIEW} AS SELECT m.value FROM {rows} {alias} "
        f"LEFT JOIN LATERAL (SELECT {expression} AS value FROM (SELECT new.*) row_) m ON true"
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ WRITE")  # a session that only reads may not make a view either
            connection.execute(_SILENT)
            connection.execute(sql.SQL(view))
            kind = connection.execute(_KIND).fetchone() or ("text", "text")
            found = connection.execute(_NEEDS).fetchall()
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        return error
    return _Needs(
        str(kind[0]),
        str(kind[1]),
        frozenset(str(name) for name, captured, function in found if captured and not function),
        frozenset(str(name) for name, captured, function in found if not captured and not function),
        frozenset(str(name) for name, _, function in found if function),
    )


def _known(connection: Connection, types: Iterable[str]) -> frozenset[str]:
    query = "SELECT t FROM unnest(%s::text[]) t WHERE to_regtype(t) IS NOT NULL"
    return frozenset(str(row[0]) for row in connection.execute(query, [sorted({*types})]).fetchall())


def _row(columns: Iterable[Column], known: Collection[str] | None = None) -> str:
    return f"(SELECT {_nulls(columns, known)[2:]})"


def _nulls(columns: Iterable[Column], known: Collection[str] | None) -> str:
    """NULLs of these types, a comma before each; a type that is not known stays text, as where rows are staged."""
    return "".join(
        f", NULL::{one.type if known is None or one.type in known else 'text'} AS {quote(one.name)}" for one in columns
    )


def _free(table: Table) -> str:
    """A name that no column has."""
    place = 0
    while (name := f"sp_made_{place}") in table.by_name:
        place += 1
    return name


def _listed(needs: _Needs) -> str:
    return ", ".join(sorted({*needs.captured, *needs.others, *needs.functions})) or "the migrated database"


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
