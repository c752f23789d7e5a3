"""The content of single columns, hashed inside PostgreSQL over the rows' keys, so that no row travels.

For each column the hash of "key, value" is summed over all rows, with two seeds, modulo 2**64. The sum does not
depend on the order of rows, but it does on which row has which value: two rows that swap theirs are seen.
`ROW(x)::text` calls the same output function as COPY (a plain cast to text would trim `character(n)`, and write
booleans otherwise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.rows import hash_rows, read_columns
from safepoint.rehearsal.catalogue import Column, Table

SEEDS = (0, 0x53414645)
_MODULUS = 2**64
KEYS = "safepoint_keys"

_MAKE_KEYS = sql.SQL('create temporary table {} (k text collate "C" primary key)').format(sql.Identifier(KEYS))
_DROP_KEYS = sql.SQL("drop table if exists pg_temp.{}").format(sql.Identifier(KEYS))


@dataclass(frozen=True)
class ColumnPrint:
    """A column's content over some rows. `constant`: all rows have the same value, which is `least`, as ROW text.

    `filled` counts values that are neither NULL nor an empty text.
    """

    content: str
    filled: int
    constant: bool
    least: str | None

    @property
    def value(self) -> str:
        """The constant value, for people."""
        text = (self.least or "()")[1:-1]
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text or "NULL"


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
    expressions: Mapping[str, sql.Composable],
    *,
    only_keys: bool = False,
) -> TableContent:
    """Hash expressions over a table's rows.

    Args:
        key: the columns that tell rows apart; without any, swapped values are not seen.
        expressions: by the names under which their prints are given back; over the alias `t`.
        only_keys: only rows whose key is in the temporary table that `give_keys` made.
    """
    row = connection.execute(content_query(table, key, list(expressions.values()), only_keys=only_keys)).fetchone()
    values = list(row or ())
    rows, keys = int(values[0]), _digits(values[1:3])
    prints = {}
    for number, name in enumerate(expressions):
        one, two, filled, least, most = values[3 + 5 * number : 8 + 5 * number]
        prints[name] = ColumnPrint(_digits([one, two]), filled, least == most, least)
    return TableContent(rows, keys, prints)


def read_rows(connection: Connection, table: Table, columns: Sequence[Column]) -> tuple[int, str]:
    """How many rows there are, and the hash of them written with these columns in this order.

    It equals a snapshot's fingerprint of a table that had the same rows in columns of that order and of types that are
    hashed alike (all integers are; text and varchar; and what is not changed). Unequal, it says nothing.
    """
    known = {column.name: column for column in read_columns(connection, table.name)}
    query = hash_rows(sql.Identifier(table.schema, table.relation), [known[column.name] for column in columns])
    row = connection.execute(query).fetchone() or (0, 0, 0)
    return int(row[0]), _digits(row[1:3])


def content_query(
    table: Table, key: Sequence[Column], expressions: Sequence[sql.Composable], *, only_keys: bool = False
) -> sql.Composed:
    """The query; each expression is written as text once. Pure.

    OFFSET 0 keeps the planner from doing that for each of the sums again. NULL differs from an empty text, as
    `()` does from `("")`.
    """
    sums = [_SUMS_OF_KEY, *(_sums(number) for number in range(len(expressions)))]
    texts = [
        sql.SQL('row({})::text collate "C" as {}').format(expression, sql.Identifier(f"c{number}"))
        for number, expression in enumerate(expressions)
    ]
    join: sql.Composable = sql.SQL("")
    if only_keys:
        join = sql.SQL("join pg_temp.{} keys on keys.k = {}").format(sql.Identifier(KEYS), key_text(key))
    return sql.SQL("select count(*), {} from (select {} as k{}{} from only {} as t {} offset 0) as lines").format(
        sql.SQL(", ").join(sums),
        key_text(key),
        sql.SQL(", " if texts else ""),
        sql.SQL(", ").join(texts),
        sql.Identifier(table.schema, table.relation),
        join,
    )


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


_SUMS_OF_KEY = sql.SQL("coalesce(sum(hashtextextended(k, {})), 0), coalesce(sum(hashtextextended(k, {})), 0)").format(
    sql.Literal(SEEDS[0]), sql.Literal(SEEDS[1])
)


def _sums(number: int) -> sql.Composed:
    name = sql.Identifier(f"c{number}")
    one, two = (
        sql.SQL("coalesce(sum(hashtextextended(k || {}, {})), 0)").format(name, sql.Literal(seed)) for seed in SEEDS
    )
    return sql.SQL("{}, {}, count(*) filter (where {} not in ('()', '(\"\")')), min({}), max({})").format(
        one, two, name, name, name
    )


def _digits(sums: Sequence[int]) -> str:
    return "".join(f"{int(one) % _MODULUS:016x}" for one in sums)
