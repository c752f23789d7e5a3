"""Some rows of a table that differ between two databases, with what differs in them: for people who want to look.

The two databases cannot be joined, and a table may be large. So the rows at the beginning of the key are compared
first: most differences show at once. Only where these are equal whole tables are hashed in parts, by the hash of the
key, and the rows of a part that differs are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.masking import LONG, masked
from safepoint.rehearsal.catalogue import Column, Table
from safepoint.rehearsal.changes import Side, TableChange
from safepoint.rehearsal.prints import key_text, of

Fate = Literal[
    "differs",
    "is gone",
    "stayed behind",
    "cannot go back",
    "no row is shown: they have no key by which they could be named",
    "no row is shown: looking for one took longer than a minute",
]

MOST: Final = 3
"""Examples for each table."""
_WINDOW: Final = 2_000
_PARTS: Final = 4_096
PATIENCE: Final = "set statement_timeout = '60s'"
"""How long rows are looked for."""


@dataclass(frozen=True)
class Value:
    """One column of a row as it was and as it is, for people: masked where its name says that it is secret."""

    column: str
    before: str
    after: str


@dataclass(frozen=True)
class Example:
    """A row by its key (`id=7`), and what became of it; `values` are those that differ. No key: why none is shown."""

    key: str
    fate: Fate
    values: tuple[Value, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "values": [asdict(value) for value in self.values]}

    def __str__(self) -> str:
        told = ", ".join(f"{one.column} was {one.before}, is {one.after}" for one in self.values)
        return f"{self.key} {told or self.fate}".strip()


# By column: the hash of the whole value, and its beginning.
Row = Mapping[str, tuple[str, str | None]]


@dataclass(frozen=True)
class _Read:
    """How rows of one side are read: its table, its key, and the columns that are compared and are there."""

    connection: Connection
    table: Table
    key: tuple[Column, ...]
    columns: tuple[str, ...]

    def rows(self, clause: sql.Composable) -> dict[tuple[str, ...], Row]:
        """Rows by the texts of their keys."""
        keys = [sql.SQL("{}::text").format(of(column.name)) for column in self.key]
        shown = [
            sql.SQL("md5(row({0})::text), left({0}::text, {1})").format(of(name), sql.Literal(LONG + 1))
            for name in self.columns
        ]
        query = sql.SQL("select {} from only {} as t {}").format(
            sql.SQL(", ").join([*keys, *shown]), sql.Identifier(self.table.schema, self.table.relation), clause
        )
        found: dict[tuple[str, ...], Row] = {}
        for row in self.connection.execute(query):
            texts = row[len(self.key) :]
            pairs = zip(texts[::2], texts[1::2], strict=True)
            found[tuple(row[: len(self.key)])] = dict(zip(self.columns, pairs, strict=True))
        return found

    def parts(self, count: int, columns: Sequence[str]) -> dict[int, tuple[int, str]]:
        """How many rows each part has, and the hash over their keys and those columns."""
        text = sql.SQL("row({})::text").format(sql.SQL(", ").join(of(one) for one in (*self._names, *columns)))
        query = sql.SQL(
            "select {part}, count(*), sum(hashtextextended({text}, 0))::text from only {table} as t group by 1"
        ).format(part=self.part(count), text=text, table=sql.Identifier(self.table.schema, self.table.relation))
        return {row[0]: (row[1], row[2]) for row in self.connection.execute(query)}

    def part(self, count: int) -> sql.Composed:
        """In which part a row is."""
        return sql.SQL("abs(mod(hashtext({}), {}))").format(key_text(self.key), sql.Literal(count))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.key)


def examples(before: Side, after: Side, change: TableChange) -> tuple[Example, ...]:
    """Up to three rows of a table of both sides that differ, or why none is shown; nothing where all are equal."""
    if change.before is None or change.kind == "identical":
        return ()
    old = before.picture.named(change.before)
    new = None if change.after is None else after.picture.named(change.after)
    if old is None or not old.key_columns or not change.keyed:
        return (Example("", "no row is shown: they have no key by which they could be named"),)
    lost = tuple(one.before for one in change.columns if one.kind != "identical" and one.before is not None)
    gone = tuple(one.before for one in change.columns if one.after is None and one.before is not None)
    try:
        before.connection.execute(PATIENCE)
        after.connection.execute(PATIENCE)
        ours = _Read(before.connection, old, old.key_columns, lost)
        if new is None:
            return _named(ours, ours.rows(sql.SQL("order by {} limit {}").format(_keys(ours), sql.Literal(MOST))), {})
        theirs = _Read(after.connection, new, _same(old, new), tuple(one for one in lost if one not in gone))
        return _found(ours, theirs, gone, max(change.rows_before, change.rows_after))
    except psycopg.errors.QueryCanceled:
        return (Example("", "no row is shown: looking for one took longer than a minute"),)


def _same(old: Table, new: Table) -> tuple[Column, ...]:
    """The key's columns of the other side, in the order of this one."""
    columns = {column.name: column for column in new.columns}
    return tuple(columns.get(column.name, column) for column in old.key_columns)


def _found(ours: _Read, theirs: _Read, gone: Sequence[str], rows: int) -> tuple[Example, ...]:
    """At the beginning of the key, else where a column that is gone had a value, else in a part that differs."""
    first = sql.SQL("order by {} limit {}").format(_keys(ours), sql.Literal(_WINDOW))
    left = ours.rows(first)
    if len(left) < _WINDOW:
        right = theirs.rows(first)
    else:
        last = list(left)[-1]
        bound = sql.SQL("where row({}) <= row({}) order by {} limit {}").format(
            _keys(ours), sql.SQL(", ").join(sql.Literal(value) for value in last), _keys(ours), sql.Literal(2 * _WINDOW)
        )
        right = theirs.rows(bound)
    if len(right) >= (_WINDOW if len(left) < _WINDOW else 2 * _WINDOW):
        left = {key: row for key, row in left.items() if key in right}  # the rest may stand further on
    found = _named(ours, left, right)
    for column in gone if not found else ():
        only = replace(ours, columns=(column,))
        some = sql.SQL("where {} is not null order by {} limit {}")
        found = found or _named(ours, only.rows(some.format(of(column), _keys(ours), sql.Literal(MOST))), None)
    return found or _in_parts(ours, theirs, rows)


def _in_parts(ours: _Read, theirs: _Read, rows: int) -> tuple[Example, ...]:
    count = min(_PARTS, max(1, rows // _WINDOW))
    mine, other = ours.parts(count, theirs.columns), theirs.parts(count, theirs.columns)
    differing = next((part for part in sorted({*mine, *other}) if mine.get(part) != other.get(part)), None)
    if differing is None:
        return ()
    left, right = (
        side.rows(sql.SQL("where {} = {}").format(side.part(count), sql.Literal(differing))) for side in (ours, theirs)
    )
    return _named(ours, left, right)


def _keys(side: _Read) -> sql.Composed:
    return sql.SQL(", ").join(of(column.name) for column in side.key)


def _named(
    side: _Read, left: Mapping[tuple[str, ...], Row], right: Mapping[tuple[str, ...], Row] | None
) -> tuple[Example, ...]:
    names = [column.name for column in side.key]

    def name(key: tuple[str, ...]) -> str:
        return ", ".join(
            f"{column}={masked(column, value, side.table.relation)}" for column, value in zip(names, key, strict=True)
        )

    return chosen(Example(name(key), fate, values) for key, fate, values in compared(left, right, side.table.relation))


def compared(
    left: Mapping[tuple[str, ...], Row], right: Mapping[tuple[str, ...], Row] | None, table: str
) -> Iterable[tuple[tuple[str, ...], Fate, tuple[Value, ...]]]:
    """The rows that differ, by key. Pure.

    Args:
        right: None where only columns that are gone are looked at: all of these rows had a value there.
    """
    for key, row in left.items():
        if right is not None and key not in right:
            yield key, "is gone", ()
            continue
        other = {} if right is None else right[key]
        values = tuple(
            Value(name, _told(name, text, table), _told(name, other[name][1], table) if name in other else _GONE)
            for name, (print_, text) in row.items()
            if (text not in (None, "") if name not in other else other[name][0] != print_)
        )
        if values:
            yield key, "differs", values
    for key in right or ():
        if key not in left:
            yield key, "stayed behind", ()


_GONE: Final = "without its column"


def _told(name: str, text: str | None, table: str) -> str:
    return "an empty text" if text == "" else masked(name, text, table)


def chosen(found: Iterable[Example]) -> tuple[Example, ...]:
    """A few of them: first those that show something which no other one shows. Pure."""
    picked: list[Example] = []
    spare: list[Example] = []
    seen: set[tuple[str, ...]] = set()
    for one in found:
        what = (one.fate, *(value.column for value in one.values))
        (spare if what in seen else picked).append(one)
        seen.add(what)
        if len(picked) >= MOST:
            break
    return tuple([*picked, *spare][:MOST])
