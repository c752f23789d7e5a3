"""What became of every column of every table, from the data and the catalogues and not from the operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.postgres.rows import Ordering, RowColumn
from safepoint.rehearsal.catalogue import Column, Picture, Table
from safepoint.rehearsal.prints import (
    Asked,
    ColumnPrint,
    TableContent,
    cast,
    give_keys,
    is_number,
    lost_by,
    of,
    read_content,
)

Kind = Literal["identical", "renamed", "retyped", "narrowed", "re-expressed", "moved", "filled", "added", "removed"]
_CAST = " (cast)"


@dataclass(frozen=True)
class ColumnChange:
    """One column. `rows` counts those that lose something: values that do not come back, or that are gone.

    `retyped`: another type, all values come back. `narrowed`: values were cut or rounded by the type, or can no longer
    be as long. `re-expressed`: other values, which the type does not explain. `filled`: new, with values that
    differ. `moved`: new under this name, with the values of a removed column.
    """

    kind: Kind
    before: str | None
    after: str | None
    type_before: str | None
    type_after: str | None
    rows: int = 0
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)

    def __str__(self) -> str:
        name = self.before or self.after or ""
        if self.before is not None and self.after is not None and self.before != self.after:
            name = f"{self.before} → {self.after}"
        return f"{name}: {self.kind}{', ' + self.detail if self.detail else ''}"


@dataclass(frozen=True)
class TableChange:
    """One table. `keyed` is false where its rows differ and have no key that both sides share: swaps are not seen then.

    `added` and `removed` count rows by their keys (without a key: by their number).
    """

    before: str | None
    after: str | None
    rows_before: int
    rows_after: int
    added: int
    removed: int
    columns: tuple[ColumnChange, ...]
    keyed: bool = True

    @property
    def kind(self) -> str:
        """The table as a whole, in a word."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        if self.before != self.after:
            return "renamed"
        changed = self.added or self.removed or any(column.kind != "identical" for column in self.columns)
        return "changed" if changed else "identical"

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "kind": self.kind, "columns": [column.as_json() for column in self.columns]}

    def __str__(self) -> str:
        name = self.before or self.after or ""
        return f"{name} → {self.after}" if self.kind == "renamed" else name


@dataclass(frozen=True)
class Side:
    """One of two databases: a session in it, its catalogue, and by table's name rows and content of whole rows.

    The content of `after` is that of the columns which were there before, in their order then (see `as_before`).
    """

    connection: Connection
    picture: Picture
    rows: Mapping[str, tuple[int, str]]


Pair = tuple[Column | None, Column | None]
Pairing = Callable[[Table, Table], list[Pair]]


def by_number(before: Table, after: Table) -> list[Pair]:
    """Columns that are the same ones in the catalogue. Pure."""
    numbers = dict.fromkeys(column.number for column in (*before.columns, *after.columns))
    return [(before.column(number), after.column(number)) for number in numbers]


def by_name(before: Table, after: Table) -> list[Pair]:
    """Columns of the same name. Pure."""
    ours = {column.name: column for column in before.columns}
    theirs = {column.name: column for column in after.columns}
    return [(ours.get(name), theirs.get(name)) for name in dict.fromkeys([*ours, *theirs])]


def by_id(before: Picture, table: Table) -> Table | None:
    """The table that it was, by the catalogue's own id. Pure."""
    return before.tables.get(table.oid)


def by_table_name(before: Picture, table: Table) -> Table | None:
    """The table that had its name. Pure."""
    return before.named(table.name)


def as_before(
    before: Picture,
    after: Picture,
    *,
    pairing: Pairing = by_number,
    former: Callable[[Picture, Table], Table | None] = by_id,
) -> Ordering:
    """How rows are hashed so that a table which has all its columns and rows still has the content of before.

    Columns may be renamed, new beside them, or have come back in another order. What has lost a column is only counted:
    all of its columns are compared anyway. Pure.
    """
    known = {table.name: table for table in after.tables.values()}

    def ordered(name: str, columns: tuple[RowColumn, ...]) -> tuple[RowColumn, ...] | None:
        new = known.get(name)
        if new is None:
            return columns
        old = former(before, new)
        if old is None:
            return None
        partner = {one.number: two for one, two in pairing(old, new) if one is not None}
        partners = [partner[column.number] for column in old.columns]
        if [column.number for column in new.columns] == [column.number for column in old.columns]:
            return columns
        own = {column.name: column for column in columns}
        found = [own.get(two.name) for two in partners if two is not None]
        return None if len(found) < len(partners) or None in found else tuple(one for one in found if one is not None)

    return ordered


def changes(before: Side, after: Side, *, jobs: int = 2) -> tuple[TableChange, ...]:
    """All tables, paired by their ids, columns by their numbers: `after` grew out of the same database.

    Args:
        jobs: with one, the two databases are read one after the other.
    """
    oids = dict.fromkeys([*before.picture.tables, *after.picture.tables])
    pairs = [(before.picture.tables.get(oid), after.picture.tables.get(oid)) for oid in oids]
    found = [_change(before, after, old, new, by_number, jobs) for old, new in pairs]
    return tuple(sorted((one for one in found if one is not None), key=str))


def differences(before: Side, after: Side) -> tuple[TableChange, ...]:
    """All tables, paired by their names, and columns too: what stands in one database and not in the other."""
    ours = {table.name: table for table in before.picture.tables.values()}
    theirs = {table.name: table for table in after.picture.tables.values()}
    names = sorted({*ours, *theirs})
    found = [_change(before, after, ours.get(name), theirs.get(name), by_name) for name in names]
    return tuple(one for one in found if one is not None)


def _change(
    before: Side, after: Side, old: Table | None, new: Table | None, pairing: Pairing, jobs: int = 2
) -> TableChange | None:
    if any(table is not None and table.kind != "r" for table in (old, new)):
        return None  # a partitioned table's rows are its partitions'; a materialised view is computed
    if old is None or new is None:
        rows_before = before.rows.get(old.name, (0, ""))[0] if old else 0
        rows_after = after.rows.get(new.name, (0, ""))[0] if new else 0
        return TableChange(
            old.name if old else None,
            new.name if new else None,
            rows_before,
            rows_after,
            rows_after,
            rows_before,
            (),
        )
    pairs = pairing(old, new)
    same_rows = before.rows.get(old.name, (0, ""))
    whole = same_rows == after.rows.get(new.name) and [one for one, _ in pairs] == list(old.columns)
    if whole and all(one is not None and two is not None for one, two in pairs):
        columns = tuple(_untouched(one, two) for one, two in pairs if one is not None and two is not None)
        return TableChange(old.name, new.name, same_rows[0], same_rows[0], 0, 0, columns)
    partners = [two for one, two in pairs if one is not None and two is not None]
    if partners and len(partners) == len(old.columns) and after.rows.get(new.name) == same_rows:
        return _widened(after, old, new, pairs, same_rows[0])
    return _compared(before, after, old, new, pairs, jobs)


def _widened(after: Side, old: Table, new: Table, pairs: Sequence[Pair], rows: int) -> TableChange:
    """All columns that were there are as they were, in another order or beside new ones: only these are looked at."""
    fresh = {
        two.name: Asked(of(two.name), two.type, ranged=True) for one, two in pairs if one is None and two is not None
    }
    theirs = read_content(after.connection, new, (), fresh) if fresh else TableContent(rows, "", {})
    judge = _Judge(after.connection, old, TableContent(rows, "", {}), theirs)
    columns = tuple(
        _untouched(one, two) if one is not None and two is not None else judge.column(one, two) for one, two in pairs
    )
    return TableChange(old.name, new.name, rows, rows, 0, 0, columns)


def _untouched(before: Column, after: Column) -> ColumnChange:
    """A column of a table all of whose rows are written as they were."""
    kind: Kind = "identical" if before.name == after.name else "renamed"
    detail = ""
    if before.type != after.type:
        kind, detail = "retyped", f"{before.type} → {after.type}, every value as it was"
    return ColumnChange(kind, before.name, after.name, before.type, after.type, 0, detail)


def _compared(before: Side, after: Side, old: Table, new: Table, pairs: Sequence[Pair], jobs: int) -> TableChange:
    key = _shared_key(old, new, pairs)
    ours, theirs = _contents(before, after, old, new, pairs, key, jobs=jobs)
    rows_before, rows_after = ours.rows, theirs.rows
    if not key:
        added, removed = max(0, rows_after - rows_before), max(0, rows_before - rows_after)
    elif ours.keys == theirs.keys:
        added = removed = 0
    else:
        give_keys(before.connection, old, [one for one, _ in key], after.connection)
        give_keys(after.connection, new, [two for _, two in key], before.connection)
        ours, theirs = _contents(before, after, old, new, pairs, key, jobs=jobs, only_keys=True)
        added, removed = rows_after - theirs.rows, rows_before - ours.rows
    judge = _Judge(before.connection, old, ours, theirs)
    columns = _with_moves([judge.column(one, two) for one, two in pairs], ours, theirs)
    return TableChange(old.name, new.name, rows_before, rows_after, added, removed, tuple(columns), bool(key))


def _shared_key(old: Table, new: Table, pairs: Sequence[Pair]) -> list[tuple[Column, Column]]:
    """The primary key, where it is made of the same columns on both sides and of the same kind of values."""
    partner = {one.number: two for one, two in pairs if one is not None and two is not None}
    found = [(column, partner.get(column.number)) for column in old.key_columns]
    shared = [(one, two) for one, two in found if two is not None]
    if len(shared) != len(old.key) or {two.number for _, two in shared} != set(new.key):
        return []
    return shared


def _contents(
    before: Side,
    after: Side,
    old: Table,
    new: Table,
    pairs: Sequence[Pair],
    key: Sequence[tuple[Column, Column]],
    *,
    jobs: int,
    only_keys: bool = False,
) -> tuple[TableContent, TableContent]:
    # Only of a column that came or went more is asked than whether its values are the same.
    ours: dict[str, Asked] = {}
    theirs: dict[str, Asked] = {}
    for one, two in pairs:
        if one is not None:
            ours[one.name] = Asked(of(one.name), one.type, counted=two is None)
        if two is not None:
            theirs[two.name] = Asked(of(two.name), two.type, ranged=one is None)
        if one is not None and two is not None and one.type != two.type:
            ours[one.name + _CAST] = Asked(cast(one.name, two.type), two.type)
    mine_key, other_key = [one for one, _ in key], [two for _, two in key]
    number = len(key) == 1 and all(map(is_number, key[0]))
    looked = {"number": number, "only_keys": only_keys}
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal-compare") as pool:
        future = pool.submit(read_content, after.connection, new, other_key, theirs, **looked)
        if jobs == 1:
            wait([future])
        try:
            with before.connection.transaction():
                mine = read_content(before.connection, old, mine_key, ours, **looked)
        except psycopg.Error:
            # A value that cannot be cast plainly: then the cast explains nothing, and the other prints are taken.
            plain = {name: asked for name, asked in ours.items() if not name.endswith(_CAST)}
            mine = read_content(before.connection, old, mine_key, plain, **looked)
        other = future.result()
    return mine, other


@dataclass(frozen=True)
class _Judge:
    connection: Connection
    table: Table
    ours: TableContent
    theirs: TableContent

    def column(self, one: Column | None, two: Column | None) -> ColumnChange:
        """What became of a column, by its prints."""
        if two is None:
            return self._removed(one) if one is not None else ColumnChange("removed", None, None, None, None)
        if one is None:
            return self._added(two)
        mine, other = self.ours.columns[one.name], self.theirs.columns[two.name]
        words = (one.name, two.name, one.type, two.type)
        if mine.content == other.content:
            change = _untouched(one, two)
            return ColumnChange(change.kind, *words, 0, change.detail)
        by_cast = self.ours.columns.get(one.name + _CAST)
        if by_cast is None or by_cast.content != other.content:
            return ColumnChange("re-expressed", *words, self.ours.rows, "other values, which the type does not explain")
        lost = lost_by(self.connection, self.table, one.name, one.type, two.type)
        if lost:
            return ColumnChange("narrowed", *words, lost, f"{one.type} → {two.type}, {lost:,} values do not come back")
        return ColumnChange("retyped", *words, 0, f"{one.type} → {two.type}, every value comes back")

    def _removed(self, column: Column) -> ColumnChange:
        filled = self.ours.columns[column.name].filled
        detail = f"{filled:,} values are gone" if filled else "it was empty"
        return ColumnChange("removed", column.name, None, column.type, None, filled, detail)

    def _added(self, column: Column) -> ColumnChange:
        found: ColumnPrint = self.theirs.columns[column.name]
        if self.theirs.rows == 0 or found.constant:
            value = "an empty text" if found.value == "" else found.value
            detail = f"{value} in every row" if self.theirs.rows else "no rows"
            return ColumnChange("added", None, column.name, None, column.type, 0, detail)
        return ColumnChange("filled", None, column.name, None, column.type, 0, "values that differ from row to row")


def _with_moves(columns: Sequence[ColumnChange], ours: TableContent, theirs: TableContent) -> list[ColumnChange]:
    """A new column with the very content of a removed one is that one, moved; one beside removed ones is made of them.

    Pure.
    """
    removed = {ours.columns[one.before].content: one for one in columns if one.kind == "removed" and one.before}
    moved: dict[str, str] = {}
    result = []
    for one in columns:
        source = removed.get(theirs.columns[one.after].content) if one.before is None and one.after else None
        if source is not None and source.before is not None and one.kind == "filled":
            moved[source.before] = one.after or ""
            words = (source.before, one.after, source.type_before, one.type_after)
            result.append(ColumnChange("moved", *words, 0, f"has all values of {source.before}"))
        else:
            result.append(one)
    result = [one for one in result if not (one.kind == "removed" and one.before in moved)]
    gone = [one.before for one in result if one.kind == "removed" and one.rows and one.before]
    return [_made_of(one, gone) if one.kind == "filled" and gone else one for one in result]


def _made_of(column: ColumnChange, gone: Sequence[str]) -> ColumnChange:
    detail = f"filled by a data migration, in the place of {' and '.join(gone)}"
    return ColumnChange("re-expressed", None, column.after, None, column.type_after, 0, detail)
