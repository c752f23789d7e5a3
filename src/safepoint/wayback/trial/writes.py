"""Writes of every kind, generated for any schema: what people might do after a launch, tried on a copy.

Rows that are there are copied, changed, deleted and given other keys, one transaction for each write. What the
schema's own rules refuse is no fault; it is told, so that nobody takes it for tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, ForeignKey, Table

Kind = Literal["insert", "update", "delete", "key change", "cascade", "truncate", "truncate cascade"]
_ROW_BY_ROW: Final[tuple[Kind, ...]] = ("insert", "update", "key change", "delete", "cascade", "truncate")
KINDS: Final[tuple[Kind, ...]] = (*_ROW_BY_ROW, "truncate cascade")

# A few rows are looked for in tables that may be large: by an index wherever there is one, and nothing is compiled.
_SETTINGS: Final = "SET statement_timeout = '15s'; SET enable_seqscan = off; SET jit = off"
_ROWS: Final = 3
_SMALL: Final = 10_000
_FAMILY: Final = 1_000  # children that are written with their parent, at most: a few rows are to be written
_NEAR: Final = 100  # rows that are searched before the whole table is, which may be large
_NUMBERS: Final = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_TEXTS: Final = ("text", "character varying", "citext")
_DAYS: Final = ("date", "timestamp without time zone", "timestamp with time zone")
_DEEP: Final = 4
_DOOMED: Final = "sp_doomed"
_LOOKED_AT: Final = sql.SQL("ANALYZE {}").format(sql.Identifier("pg_temp", _DOOMED))  # else thousands are expected


@dataclass(frozen=True)
class Write:
    """One write that was tried. `rows` is 0 where there was nothing to write to; `refused` is PostgreSQL's reason."""

    kind: Kind
    table: str
    rows: int
    refused: str | None = None


Statements = Sequence[sql.Composed]


def write_everything(
    connection: Connection, catalogue: Catalogue, tables: Sequence[str], read: Sequence[str] = ()
) -> tuple[Write, ...]:
    """Try each kind of write on each of the tables (`schema.table`); every one that PostgreSQL accepts is committed.
    Those that mappers `read` are not emptied: hardly a row would be left to compare.

    TRUNCATE ... CASCADE is left to `empty_with_dependants`: it takes away what the other writes left to compare.
    """
    connection.execute(_SETTINGS)
    maker = _Maker(catalogue)
    found = []
    for kind in _ROW_BY_ROW:
        chosen = [catalogue.tables[name] for name in (*tables, *read)]
        if kind == "truncate":
            emptied = [table for table in chosen if not maker.children(table) and table.name not in read]
            chosen = _least(connection, emptied)
        found += [_try(connection, kind, table, maker.ways(kind, table)) for table in chosen]
    return tuple(found)


def empty_with_dependants(
    connection: Connection, catalogue: Catalogue, tables: Sequence[str]
) -> tuple[Write, frozenset[str]] | None:
    """TRUNCATE ... CASCADE of the table that takes the fewest rows with it; gives all tables that were emptied.

    Only where each of them is one of `tables`: of the others nobody says what the old database should have then.
    None: there is no such table that others refer to.
    """
    connection.execute(_SETTINGS)
    maker = _Maker(catalogue)
    groups = {name: maker.dependants(catalogue.tables[name]) for name in tables}
    fitting = {name: group for name, group in groups.items() if len(group) > 1 and group <= set(tables)}
    counts = {name: _count(connection, catalogue.tables[name]) for name in {*fitting}.union(*fitting.values())}
    sizes = {name: sum(counts[one] for one in group) for name, group in fitting.items() if counts[name]}
    if not sizes or min(sizes.values()) >= _SMALL:
        return None
    chosen = min(sorted(sizes), key=lambda name: sizes[name])
    statement = sql.SQL("TRUNCATE {} CASCADE").format(catalogue.tables[chosen].identifier)
    return _try(connection, "truncate cascade", catalogue.tables[chosen], iter([[statement]])), fitting[chosen]


def _try(connection: Connection, kind: Kind, table: Table, ways: Iterator[Statements]) -> Write:
    """The first way that is accepted; one that finds no row is followed by the next."""
    refused = None
    for statements in ways:
        try:
            with connection.transaction():
                rows = [connection.execute(one).rowcount for one in statements]
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            if kind in ("truncate", "truncate cascade") or rows[-1] > 0:
                return Write(kind, table.name, max(1, rows[-1]))
        except psycopg.Error as error:
            refused = " ".join(str(error.diag.message_primary or error).split())
    return Write(kind, table.name, 0, refused)


def _least(connection: Connection, tables: Sequence[Table]) -> list[Table]:
    """The table with the fewest rows that has any: emptied, it takes the least away from the rest."""
    counted = [(_count(connection, table), table) for table in tables]
    found = [(count, table) for count, table in counted if 0 < count < _SMALL]
    return [min(found, key=lambda one: one[0])[1]] if found else []


def _count(connection: Connection, table: Table) -> int:
    """How many rows; it is not counted further than a small table has."""
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) t").format(table.identifier, _SMALL)
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class _Maker:
    """Statements for a table, by its columns and keys. Nothing is run here."""

    catalogue: Catalogue

    def ways(self, kind: Kind, table: Table) -> Iterator[Statements]:
        """One after the other until one is accepted."""
        if kind == "insert":
            yield from self._inserts(table)
        elif kind == "update":
            yield from self._updates(table)
        elif kind == "key change" and table.key and not self.children(table):
            yield from self._key_changes(table)
        elif kind == "delete" and table.key:
            # Rows that were inserted a moment ago are likely to have no children.
            near = (self._newest(table),) if self.children(table) else ()
            for source in (*near, table.identifier):
                yield [self._delete(table, self._rows_without_children(table, source))]
        elif kind == "cascade" and table.key and self.children(table):
            # Once its children are gone it is no row with children any more: the choice is kept.
            chosen = sql.SQL("SELECT * FROM {}").format(sql.Identifier("pg_temp", _DOOMED))
            among = sql.SQL("({}) IN ({})").format(sql.SQL(", ").join(map(_name, table.key)), chosen)
            for source in (self._first(table), table.identifier):
                yield [self._chosen(table, source), _LOOKED_AT, *self._cascade(table, among, 0)]
        elif kind == "truncate":
            yield [sql.SQL("TRUNCATE {}").format(table.identifier)]

    def children(self, table: Table) -> Sequence[tuple[Table, ForeignKey]]:
        """Who refers to it; itself is left out."""
        return self._children.get(table.name, ())

    @cached_property
    def _children(self) -> Mapping[str, Sequence[tuple[Table, ForeignKey]]]:
        """By table. Looked up thousands of times: with a thousand tables, looking through all of them took minutes."""
        found: dict[str, list[tuple[Table, ForeignKey]]] = {}
        for other in self.catalogue.tables.values():
            for key in other.foreign_keys:
                if key.parent != other.name:
                    found.setdefault(key.parent, []).append((other, key))
        return found

    def dependants(self, table: Table) -> frozenset[str]:
        """Itself, and everything that TRUNCATE ... CASCADE takes with it."""
        found, left = {table.name}, [table]
        while left:
            for child, _ in self.children(left.pop()):
                if child.name not in found:
                    found.add(child.name)
                    left.append(child)
        return frozenset(found)

    # -- inserting -----------------------------------------------------------------------------------------------

    def _inserts(self, table: Table) -> Iterator[Statements]:
        yield [self._copies(table, sql.SQL("SELECT * FROM {} LIMIT {}").format(table.identifier, _ROWS), {})]
        for unique in table.uniques:
            if unique.plain and len(unique.columns) > 1:
                yield [self._copies(table, self._free_pairs(table, unique.columns), {}, keep=unique.columns)]
        # A rule over a whole (books that balance) is kept by copying the parent with all its children.
        for key in table.foreign_keys:
            parent = self.catalogue.tables.get(key.parent)
            if parent is not None and parent.name != table.name and len(key.columns) == 1:
                yield self._family(table, key, parent)

    def _copies(
        self,
        table: Table,
        source: sql.Composed,
        given: Mapping[str, sql.Composed],
        keep: Sequence[str] = (),
    ) -> sql.Composed:
        """Copies of rows, with what must not stand twice made anew."""
        unique = {name for one in table.uniques for name in one.columns} - set(keep)
        columns, values = [], []
        for column in table.written:
            value = given.get(column.name)
            if value is None and column.name in table.primary_key and column.name not in keep and _counted(column):
                continue  # the database counts it
            if value is None:
                value = _fresh(table, column) if column.name in unique else sql.Composed([_name(column.name, "s")])
            columns.append(_name(column.name))
            values.append(value)
        # A table may have nothing but a key that is counted.
        into = sql.SQL("({})").format(sql.SQL(", ").join(columns)) if columns else sql.SQL("")
        return sql.SQL("INSERT INTO {} {} SELECT {} FROM ({}) s").format(
            table.identifier, into, sql.SQL(", ").join(values), source
        )

    def _free_pairs(self, table: Table, columns: Sequence[str]) -> sql.Composed:
        """Rows whose first column of a key over several comes from another row, where that pair is still free."""
        first, rest = columns[0], columns[1:]
        others = [_name(one.name, "b") for one in table.columns if one.name != first]
        same = [sql.SQL("c.{0} = b.{0}").format(_name(name)) for name in rest]
        return sql.SQL(
            "SELECT DISTINCT ON (a.{first}) a.{first}, {others} FROM (SELECT * FROM {table} LIMIT 50) a "
            "CROSS JOIN (SELECT * FROM {table} LIMIT 50) b "
            "WHERE NOT EXISTS (SELECT FROM {table} c WHERE c.{first} = a.{first} AND {same}) LIMIT {rows}"
        ).format(
            first=_name(first),
            others=sql.SQL(", ").join(others),
            table=table.identifier,
            same=sql.SQL(" AND ").join(same),
            rows=_ROWS,
        )

    def _family(self, table: Table, key: ForeignKey, parent: Table) -> Statements:
        """A row of the parent, and its children in this table, once more."""
        (column,), (theirs,) = key.columns, key.parent_columns
        old = sql.SQL("(SELECT {} FROM {} WHERE {} IS NOT NULL ORDER BY 1 LIMIT 1)").format(
            _name(column), table.identifier, _name(column)
        )
        # Before 18 PostgreSQL has no greatest uuid, and it would be no newer one.
        by_age = parent.by_name[theirs].base == "uuid"
        newest = "(SELECT {} FROM {} ORDER BY age(xmin) LIMIT 1)" if by_age else "(SELECT max({}) FROM {})"
        new = sql.SQL(newest).format(_name(theirs), parent.identifier)
        few = sql.SQL("(SELECT count(*) FROM (SELECT FROM {} WHERE {} = {} LIMIT {}) n) < {}").format(
            table.identifier, _name(column), old, _FAMILY, _FAMILY
        )
        one = sql.SQL("SELECT * FROM {} WHERE {} = {} AND {}").format(parent.identifier, _name(theirs), old, few)
        all_ = sql.SQL("SELECT * FROM {} WHERE {} = {} AND {}").format(table.identifier, _name(column), old, few)
        return [self._copies(parent, one, {}), self._copies(table, all_, {column: new})]

    # -- changing ------------------------------------------------------------------------------------------------

    def _updates(self, table: Table) -> Iterator[Statements]:
        bound = {name for one in table.uniques for name in one.columns} | {
            name for key in table.foreign_keys for name in key.columns
        }
        free = [one for one in table.written if one.name not in bound and not one.identity]
        changed = [(one, value) for one in free if (value := _other(one)) is not None]
        where = self._some(table)
        if changed:
            yield [self._update(table, changed, where)]
        for pair in changed:
            yield [self._update(table, [pair], where)]
        if table.written:
            same = table.written[-1]
            yield [self._update(table, [(same, sql.Composed([_name(same.name)]))], where)]

    def _update(self, table: Table, values: Sequence[tuple[Column, sql.Composed]], where: sql.Composed) -> sql.Composed:
        assigned = [sql.SQL("{} = {}").format(_name(column.name), value) for column, value in values]
        return sql.SQL("UPDATE {} SET {} WHERE {}").format(table.identifier, sql.SQL(", ").join(assigned), where)

    def _key_changes(self, table: Table) -> Iterator[Statements]:
        first = table.by_name[table.key[-1]]
        yield [self._update(table, [(first, _fresh(table, first))], self._some(table, 1))]

    # -- deleting ------------------------------------------------------------------------------------------------

    def _delete(self, table: Table, where: sql.Composed) -> sql.Composed:
        return sql.SQL("DELETE FROM {} WHERE {}").format(table.identifier, where)

    def _some(self, table: Table, rows: int = _ROWS) -> sql.Composed:
        """A few rows; by their keys where they have one."""
        if not table.key:
            return sql.SQL("ctid IN (SELECT ctid FROM {} LIMIT {})").format(table.identifier, rows)
        return self._among(table, sql.SQL("SELECT {} FROM {} LIMIT {}"), rows)

    def _among(self, table: Table, query: sql.SQL, rows: int) -> sql.Composed:
        key = sql.SQL(", ").join(_name(name) for name in table.key)
        return sql.SQL("({}) IN ({})").format(key, query.format(key, table.identifier, rows))

    def _newest(self, table: Table) -> sql.Composed:
        last = sql.SQL(", ").join(sql.SQL("{} DESC").format(_name(name)) for name in table.key)
        return sql.SQL("(SELECT * FROM {} ORDER BY {} LIMIT {})").format(table.identifier, last, _NEAR)

    def _first(self, table: Table) -> sql.Composed:
        return sql.SQL("(SELECT * FROM {} LIMIT {})").format(table.identifier, _NEAR)

    def _rows_without_children(self, table: Table, source: sql.Composable) -> sql.Composed:
        free = [sql.SQL("NOT {}").format(_has(child, key)) for child, key in self.children(table)]
        key = sql.SQL(", ").join(_name(name, "p") for name in table.key)
        return sql.SQL("({}) IN (SELECT {} FROM {} p WHERE {} LIMIT 1)").format(
            sql.SQL(", ").join(_name(name) for name in table.key),
            key,
            source,
            sql.SQL(" AND ").join(free) if free else sql.SQL("true"),
        )

    def _chosen(self, table: Table, source: sql.Composable) -> sql.Composed:
        """The key of one row that somebody refers to, and not too many do."""
        some = [_has(child, key) for child, key in self.children(table)]
        counts = [_number(child, key, _FAMILY) for child, key in self.children(table)]
        return sql.SQL(
            "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} p WHERE ({}) AND {} < {} LIMIT 1"
        ).format(
            sql.Identifier(_DOOMED),
            sql.SQL(", ").join(_name(name, "p") for name in table.key),
            source,
            sql.SQL(" OR ").join(some),
            sql.SQL(" + ").join(counts),
            _FAMILY,
        )

    def _cascade(self, table: Table, where: sql.Composed, depth: int) -> list[sql.Composed]:
        """The children first, as Django deletes; each is found through its parents, which are still there then."""
        found: list[sql.Composed] = []
        for child, key in self.children(table) if depth < _DEEP else ():
            inside = sql.SQL("({}) IN (SELECT {} FROM {} WHERE {})").format(
                sql.SQL(", ").join(map(_name, key.columns)),
                sql.SQL(", ").join(map(_name, key.parent_columns)),
                table.identifier,
                where,
            )
            found += self._cascade(child, inside, depth + 1)
        return [*found, self._delete(table, where)]


def _has(child: Table, key: ForeignKey) -> sql.Composed:
    return sql.SQL("EXISTS (SELECT FROM {} c WHERE {})").format(child.identifier, _refers(key))


def _number(child: Table, key: ForeignKey, most: int) -> sql.Composed:
    """How many children; no further than `most` is counted."""
    return sql.SQL("(SELECT count(*) FROM (SELECT FROM {} c WHERE {} LIMIT {}) n)").format(
        child.identifier, _refers(key), most
    )


def _refers(key: ForeignKey) -> sql.Composed:
    """Whether the child `c` is one of the parent `p`."""
    pairs = zip(key.columns, key.parent_columns, strict=True)
    return sql.SQL(" AND ").join(sql.SQL("c.{} = p.{}").format(_name(one), _name(two)) for one, two in pairs)


def _name(name: str, alias: str | None = None) -> sql.Identifier:
    return sql.Identifier(name) if alias is None else sql.Identifier(alias, name)


def _counted(column: Column) -> bool:
    return column.identity or (column.default is not None and "nextval" in column.default)


def _fresh(table: Table, column: Column) -> sql.Composed:
    """A value that is not there yet; NULL where that is allowed."""
    if not column.not_null:
        return sql.SQL("NULL::{}").format(sql.SQL(column.type))
    if column.base in _NUMBERS:
        return sql.SQL("((SELECT max({0}) FROM {1}) + 1 + (random() * 900)::int)::{2}").format(
            _name(column.name), table.identifier, sql.SQL(column.base)
        )
    if column.base == "uuid":
        return sql.SQL("gen_random_uuid()").format()
    if column.base in _TEXTS or column.base == "character":
        return sql.SQL("left(md5(random()::text), {})::{}").format(_length(column), sql.SQL(column.base))
    return sql.Composed([_name(column.name)])


def _length(column: Column) -> int:
    size = column.type.partition("(")[2].rstrip(")")
    return min(32, int(size)) if size.isdigit() else 32


def _other(column: Column) -> sql.Composed | None:
    """Another value of the same length and kind, made of the one that is there; None where nobody knows one."""
    name = _name(column.name)
    if column.base in _NUMBERS:
        return sql.SQL("{} + 1").format(name)
    if column.base in _TEXTS:
        return sql.SQL("reverse({})").format(name)
    if column.base == "boolean":
        return sql.SQL("NOT {}").format(name)
    return sql.SQL("{} - interval '1 day'").format(name) if column.base in _DAYS else None
