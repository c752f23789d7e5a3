"""The hash of a table's rows, as one query: 128 bits, exact in what COPY would write, indifferent to the rows' order.

How a row is hashed. Its columns are taken in turn, and each one's hash function gets the hash so far as its seed, so
that a value counts together with its place and with all that stands before it. This is done twice, from different
seeds; the two 64-bit hashes of the rows are summed, each modulo 2**64. A sum does not depend on the order of rows, and
unlike XOR it does not lose a row that stands twice.

What is given to a hash function. Exact means: what COPY would write differently is different. PostgreSQL's own hash
functions for types answer the question whether values are equal, which is another one (1.0 and 1.00, 0 and -0,
bounds of arrays, blanks at the end), and some fold: that of bigint gives 1 and 2**32 the same hash. Those are used that
take all bytes of a value (text, uuid), or were made so (integers are put into the seed, all 64 bits of it). Time
stamps are hashed as they are sent, other built-in types as their text; everything else, of users and extensions too,
as the text of a row, because a cast to text may be another function than the output function.

The functions are the same in all versions from PostgreSQL 15 on, and so are the hashes. They depend on no object id,
and not on whether a column is declared NOT NULL: a copy in another server has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection

# Digits of e and of the golden ratio: they are nothing but different.
_SEEDS = (0x2B7E151628AED2A6, 0x1E3779B97F4A7C15)
# Bits of a bigint that can be set without its sign, two a column.
_COLUMNS_A_WORD = 31
# Further columns are hashed as the text of a row: an expression may not be nested without end.
_CHAINED = 100

_INTEGERS = frozenset({"int2", "int4", "int8"})
_TEXTS = frozenset({"text", "varchar"})
# Types whose cast to text is their output function: no cast is defined for them. (For jsonb and such the text of a row
# would have each quote doubled, which takes longer than all the rest.)
_WRITTEN = frozenset(
    {"numeric", "float4", "float8", "date", "time", "timetz", "interval", "json", "jsonb", "bytea", "tsvector"}
)

FILLED: Final = """a.attnotnull and not exists (
               select from pg_constraint k where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
                 and k.conkey = array[a.attnum])"""
"""The condition that a column `a` is NULL in no row: on PostgreSQL 18 a NOT NULL may be one for new rows alone."""

# A row's columns in the order that a restore keeps: by number, but by name for the child of a table, whose inherited
# columns come first in a copy. A domain counts as what it is made of.
# A type for which somebody made a function that casts it to text is none of the built-in ones: it may say less.
COLUMNS = f"""
    select coalesce(json_agg(json_build_array(a.attname, coalesce(t.typname, ''), {FILLED})
           order by case when i.inhrelid is null then a.attnum end, a.attname collate "C"), '[]')
    from pg_attribute a
    join pg_type own on own.oid = a.atttypid
    left join pg_type t on t.typnamespace = 'pg_catalog'::regnamespace and t.oid < 16384 and t.oid =
        case when own.typtype <> 'd' then own.oid else (
            with recursive below (oid, kind) as (
                select own.typbasetype, (select typtype from pg_type where oid = own.typbasetype)
                union all
                select d.typbasetype, (select typtype from pg_type where oid = d.typbasetype)
                from below join pg_type d on d.oid = below.oid where below.kind = 'd'
            ) select oid from below where kind <> 'd') end
        and not exists (select from pg_cast f where f.castsource = t.oid and f.casttarget = 'text'::regtype
                        and f.castmethod = 'f' and f.oid >= 16384)
    left join lateral (
        select p.inhrelid from pg_inherits p join pg_class c on c.oid = p.inhrelid
        where p.inhrelid = a.attrelid and not c.relispartition limit 1
    ) i on true
    where a.attrelid = {{relation}} and a.attnum > 0 and not a.attisdropped
"""


@dataclass(frozen=True)
class RowColumn:
    """A column as its hash needs it. `type` is the name of the built-in type; empty for all others.

    `filled`: no row has NULL there. This saves the question; the hash is the same.
    """

    name: str
    type: str
    filled: bool


Ordering = Callable[[str, tuple[RowColumn, ...]], tuple[RowColumn, ...] | None]
"""Which of a table's columns are hashed, and in which order; None where its rows are only to be counted."""


def as_they_are(_table: str, columns: tuple[RowColumn, ...]) -> tuple[RowColumn, ...] | None:
    """All of them, in their own order."""
    return columns


def read_columns(connection: Connection, name: str) -> tuple[RowColumn, ...]:
    """The columns of a relation, by its name as SQL writes it."""
    query = COLUMNS.format(relation="%s::regclass")
    row = connection.execute(query.encode(), [name]).fetchone()
    return tuple(RowColumn(*facts) for facts in row[0]) if row else ()


def hash_rows(
    table: sql.Composable, columns: Sequence[RowColumn], *, condition: sql.Composable | None = None, wide: bool = False
) -> sql.Composed:
    """The query for a row count and the two sums (numeric, not reduced yet). Pure.

    Args:
        condition: "where ..." over the table's own columns.
        wide: texts may be stored outside of their rows: each is fetched once then, and not by both hashes.
    """
    return hash_source(sql.SQL("only {}").format(table), columns, condition=condition, wide=wide)


def hash_source(
    source: sql.Composable, columns: Sequence[RowColumn], *, condition: sql.Composable | None = None, wide: bool = False
) -> sql.Composed:
    """The same of whatever stands behind FROM: a table with its partitions, a subquery. Pure."""
    chained, rest = columns[:_CHAINED], columns[_CHAINED:]
    cells: list[sql.Composable] = []
    links: list[_Link] = []
    for column in chained:
        if column.type == "bool":
            continue
        prepared = _prepared(column, wide=wide)
        if prepared is None:
            rest = (*rest, column)
            continue
        links.append(_Link(column.type, _alias(len(cells))))
        cells.append(prepared)
    if rest:
        links.append(_Link("text", _alias(len(cells))))
        cells.append(sql.SQL("row({})::text").format(_comma(_value(column) for column in rest)))
    for word in _words(chained):
        links.insert(0, _Link("int8", sql.SQL("0::int8") if word is None else _alias(len(cells))))
        cells += [] if word is None else [word]
    named = (sql.SQL("{} as {}").format(cell, _alias(place)) for place, cell in enumerate(cells))
    # OFFSET 0 keeps the planner from writing each value twice, once for each sum.
    return sql.SQL("select count(*), {}, {} from (select {} from {} as safepoint_row {} offset 0) as lines").format(
        *(sql.SQL("coalesce(sum({}), 0)").format(_chain(links, seed)) for seed in _SEEDS),
        _comma(named),
        source,
        condition or sql.SQL(""),
    )


def hashed_alike(one: str, other: str) -> bool:
    """Whether equal values of two types have the same hash. Pure."""
    return one == other or any({one, other} <= kinds for kinds in (_INTEGERS, _TEXTS))


def content(first: int, second: int) -> str:
    """Both sums of a table as one: 128 bits, as 32 hexadecimal digits. Pure."""
    return f"{int(first) % 2**64:016x}{int(second) % 2**64:016x}"


def added(one: str, other: str) -> str:
    """The content of two tables' rows together; empty where one's rows were only counted. Pure."""
    if not one or not other:
        return ""
    return content(*(int(one[at : at + 16], 16) + int(other[at : at + 16], 16) for at in (0, 16)))


@dataclass(frozen=True)
class _Link:
    type: str
    value: sql.Composable


def _chain(links: Sequence[_Link], seed: int) -> sql.Composable:
    """The hash of a row: each link's hash is the seed of the next one's."""
    so_far: sql.Composable = sql.SQL("{}::int8").format(sql.Literal(seed))
    for link in links:
        if link.type in _INTEGERS:
            so_far = sql.SQL("hashint4extended(1, {} # {})").format(link.value, so_far)
        elif link.type == "uuid":
            so_far = sql.SQL("uuid_hash_extended({}, {})").format(link.value, so_far)
        else:
            so_far = sql.SQL('hashtextextended({} collate "C", {})').format(link.value, so_far)
    return so_far


def _prepared(column: RowColumn, *, wide: bool) -> sql.Composable | None:
    """What a column gives to its hash functions, never NULL; None where only the text of a row will do."""
    value = _value(column)
    if column.type in _INTEGERS:
        return _or(column, sql.SQL("{}::int8").format(value), "0")
    if column.type in _TEXTS:
        return _or(column, sql.SQL("({}::text || '')" if wide else "{}::text").format(value), "''")
    if column.type == "uuid":
        return _or(column, sql.SQL("{}::uuid").format(value), "'00000000-0000-0000-0000-000000000000'")
    if column.type in ("timestamp", "timestamptz"):
        send = sql.SQL(f"encode({column.type}_send({{}}), 'hex')")
        return _or(column, send.format(value), "''")
    if column.type in _WRITTEN:
        return _or(column, sql.SQL("{}::text").format(value), "''")
    return None


def _or(column: RowColumn, value: sql.Composable, otherwise: str) -> sql.Composable:
    return value if column.filled else sql.SQL(f"coalesce({{}}, {otherwise})").format(value)


def _words(columns: Sequence[RowColumn]) -> Iterator[sql.Composable | None]:
    """Which values are NULL, and which booleans true: two bits a column. None where all bits are always zero."""
    for start in range(0, len(columns), _COLUMNS_A_WORD):
        terms = []
        for place, column in enumerate(columns[start : start + _COLUMNS_A_WORD]):
            cases = [] if column.filled else [(sql.SQL("when {} is null then {}"), 1 << 2 * place)]
            if column.type == "bool":
                cases.insert(0, (sql.SQL("when {} then {}"), 2 << 2 * place))
            elif _prepared(column, wide=False) is None:
                continue  # the text of a row tells NULL from all else
            whens = [text.format(_value(column), sql.Literal(bit)) for text, bit in cases]
            if whens:
                terms.append(sql.SQL("case {} else 0 end").format(sql.SQL(" ").join(whens)))
        yield sql.SQL("({})::int8").format(sql.SQL(" + ").join(terms)) if terms else None


def _value(column: RowColumn) -> sql.Composed:
    # Qualified, so that it is the column whatever it is called.
    return sql.SQL("safepoint_row.{}").format(sql.Identifier(column.name))


def _alias(place: int) -> sql.Identifier:
    return sql.Identifier(f"v{place}")


def _comma(parts: Iterator[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
