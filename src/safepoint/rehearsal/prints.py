"""The content of single columns, hashed inside PostgreSQL over the rows' keys, so that no row travels.

For each column the hash of its value, with the hash of the row's key as its seed, is summed over all rows: twice, from
different seeds, modulo 2**64. The sum does not depend on the order of rows, but it does on which row has which value:
two rows that swap theirs are seen. Integers are put into the seed, as `postgres.rows` has it; time stamps are hashed as
they are sent; types that have no cast to text are written by their output function; all others as `ROW(x)::text`, which
calls the output function as COPY does (a cast would trim `character(n)`, and write booleans otherwise).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.rehearsal.catalogue import Column, Table

SEEDS = (0, 0x53414645)
_MODULUS = 2**64
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_WRITTEN = frozenset(
    {"text", "character varying", "numeric", "real", "double precision", "date", "interval", "uuid", "json", "jsonb"}
    | {"bytea"}
)
_SENT = {"timestamp with time zone": "timestamptz_send", "timestamp without time zone": "timestamp_send"}
_MODIFIER = re.compile(r"\(\d+(,-?\d+)?\)")
KEYS = "safepoint_keys"

_MAKE_KEYS = sql.SQL('create temporary table {} (k text collate "C" primary key)').format(sql.Identifier(KEYS))
_DROP_KEYS = sql.SQL("drop table if exists pg_temp.{}").format(sql.Identifier(KEYS))


@dataclass(frozen=True)
class ColumnPrint:
    """A column's content over some rows. `constant`: all rows have the same value, which is `least`, as ROW text.

    `filled` counts values that are neither NULL nor an empty text. All but the content is told only if it is asked for.
    """

    content: str
    filled: int = 0
    constant: bool = False
    least: str | None = None

    @property
    def value(self) -> str:
        """The constant value, for people."""
        text = (self.least or "()")[1:-1]
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text or "NULL"


@dataclass(frozen=True)
class Asked:
    """An expression over the alias `t`, and its type (`format_type`). What its print tells besides the content:
    `counted`, how many values are filled; `ranged`, whether all are the same and which is the least."""

    expression: sql.Composable
    type: str
    counted: bool = False
    ranged: bool = False


@dataclass(frozen=True)
class TableContent:
    """The rows looked at, their keys, and the columns' prints by name."""

    rows: int
    keys: str
    columns: Mapping[str, ColumnPrint]


def read_content(
    connection: Connection,
    table: Table,
    key: Sequence[Column],
    asked: Mapping[str, Asked],
    *,
    number: bool = False,
    only_keys: bool = False,
) -> TableContent:
    """Hash expressions over a table's rows.

    Args:
        key: the columns that tell rows apart; without any, swapped values are not seen.
        number: the key is one integer, on the other side too, and need not be written as text.
        asked: by the names under which their prints are given back.
        only_keys: only rows whose key is in the temporary table that `give_keys` made.
    """
    row = connection.execute(
        content_query(table, key, list(asked.values()), number=number, only_keys=only_keys)
    ).fetchone()
    values = list(row or ())
    rows, keys, at = int(values[0]), _digits(values[1:3]), 3
    prints = {}
    for name, one in asked.items():
        found, at = ColumnPrint(_digits(values[at : at + 2])), at + 2
        if one.counted:
            found, at = replace(found, filled=values[at]), at + 1
        if one.ranged:
            found, at = replace(found, constant=values[at] == values[at + 1], least=values[at]), at + 2
        prints[name] = found
    return TableContent(rows, keys, prints)


def content_query(
    table: Table, key: Sequence[Column], asked: Sequence[Asked], *, number: bool = False, only_keys: bool = False
) -> sql.Composed:
    """The query; each expression is written as text once, each key hashed once. Pure.

    OFFSET 0 keeps the planner from doing that for each of the sums again.
    """
    cells = [sql.SQL("{} as {}").format(cell, name) for one, at in _numbered(asked) for cell, name in _cells(one, at)]
    names = [name for one, at in _numbered(asked) for _, name in _cells(one, at)]
    join: sql.Composable = sql.SQL("")
    if only_keys:
        join = sql.SQL("join pg_temp.{} keys on keys.k = {}").format(sql.Identifier(KEYS), key_text(key))
    hashed = sql.SQL("hashint4extended(1, k # {}::int8)" if number else "hashtextextended(k, {})")
    return sql.SQL(
        "select count(*), {sums} from (select {one} as k0, {two} as k1{names} "
        "from (select {key} as k{cells} from only {table} as t {join} offset 0) as lines offset 0) as hashed"
    ).format(
        sums=sql.SQL(", ").join([_SUMS_OF_KEY, *(_sums(one, at) for one, at in _numbered(asked))]),
        one=hashed.format(sql.Literal(SEEDS[0])),
        two=hashed.format(sql.Literal(SEEDS[1])),
        names=sql.Composed([sql.SQL(", {}").format(name) for name in names]),
        key=sql.SQL("{}::int8").format(of(key[0].name)) if number else key_text(key),
        cells=sql.Composed([sql.SQL(", {}").format(cell) for cell in cells]),
        table=sql.Identifier(table.schema, table.relation),
        join=join,
    )


def _numbered(asked: Sequence[Asked]) -> list[tuple[Asked, int]]:
    return [(one, number) for number, one in enumerate(asked)]


def _cells(one: Asked, number: int) -> list[tuple[sql.Composable, sql.Identifier]]:
    """What is hashed (NULL for NULL), and the whole as a row's text where the least is asked for."""
    base, text = _MODIFIER.sub("", one.type), sql.SQL('row({})::text collate "C"').format(one.expression)
    found: list[tuple[sql.Composable, sql.Identifier]] = []
    value = sql.SQL("nullif({}, '()')").format(text)
    if base in _INTEGERS:
        value = sql.SQL("{}::int8").format(one.expression)
    elif base in _SENT:
        value = sql.SQL(f"encode({_SENT[base]}({{}}), 'hex') collate \"C\"").format(one.expression)
    elif base in _WRITTEN:
        value = sql.SQL('{}::text collate "C"').format(one.expression)
    found.append((value, sql.Identifier(f"c{number}")))
    if one.ranged:
        found.append((text, sql.Identifier(f"r{number}")))
    return found


def is_number(column: Column) -> bool:
    """Whether its values are integers. Pure."""
    return column.type in _INTEGERS


def key_text(key: Sequence[Column]) -> sql.Composed:
    """A row's key as text; empty without a key. Pure."""
    if not key:
        return sql.SQL("''").format()
    return sql.SQL('row({})::text collate "C"').format(sql.SQL(", ").join(of(column.name) for column in key))


def of(column: str) -> sql.Composed:
    """A column of the row. Pure."""
    return sql.SQL("t.{}").format(sql.Identifier(column))


def cast(column: str, *types: str) -> sql.Composed:
    """A column cast to types one after the other. They are PostgreSQL's own words (`format_type`). Pure."""
    expression = of(column)
    for name in types:
        expression = sql.SQL("cast({} as {})").format(expression, sql.SQL(name))
    return expression


def lost_by(connection: Connection, table: Table, column: str, old: str, new: str) -> int:
    """How many rows do not come back when a column is cast to the new type and back to the old one."""
    query = sql.SQL(
        'select count(*) from only {} as t where row({})::text collate "C" is distinct from row({})::text collate "C"'
    ).format(sql.Identifier(table.schema, table.relation), cast(column, new, old), of(column))
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def give_keys(source: Connection, table: Table, key: Sequence[Column], to: Connection) -> None:
    """Copy all keys of a table into a temporary table of another database's session; they pass through in pieces."""
    to.execute(_DROP_KEYS)
    to.execute(_MAKE_KEYS)
    read = sql.SQL("copy (select {} from only {} as t) to stdout").format(
        key_text(key), sql.Identifier(table.schema, table.relation)
    )
    write = sql.SQL("copy pg_temp.{} from stdin").format(sql.Identifier(KEYS))
    with source.cursor().copy(read) as reading, to.cursor().copy(write) as writing:
        for piece in reading:
            writing.write(piece)
    to.execute(sql.SQL("analyze pg_temp.{}").format(sql.Identifier(KEYS)))


_SUMS_OF_KEY = sql.SQL("coalesce(sum(k0), 0), coalesce(sum(k1), 0)")


def _sums(one: Asked, number: int) -> sql.Composed:
    cell, row, base = sql.Identifier(f"c{number}"), sql.Identifier(f"r{number}"), _MODIFIER.sub("", one.type)
    link = "hashint4extended(1, {cell} # {key})" if base in _INTEGERS else "hashtextextended({cell}, {key})"
    # Another hash for NULL: it is none of a text's, an empty one's neither.
    whole = sql.SQL(f"coalesce(sum(coalesce({link}, hashint4extended(2, {{key}}))), 0)")
    sums = [whole.format(cell=cell, key=sql.Identifier(key)) for key in ("k0", "k1")]
    if one.counted:
        # An empty text, written as a row, is `("")`.
        empty = sql.Literal("" if base in _WRITTEN else '("")')
        filled = "{0} is not null" if base in _INTEGERS or base in _SENT else "{0} is not null and {0} <> {1}"
        sums.append(sql.SQL(f"count(*) filter (where {filled})").format(cell, empty))
    if one.ranged:
        sums.append(sql.SQL("min({0}), max({0})").format(row))
    return sql.SQL(", ").join(sums)


def _digits(sums: Sequence[int]) -> str:
    return "".join(f"{int(one) % _MODULUS:016x}" for one in sums)
