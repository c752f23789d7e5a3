"""What a replay works on: an old table that has changes, what of them counts, and how tables stand in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from safepoint.wayback.mapping.catalogue import Column, ForeignKey, Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.mapping.mapping import TableRule
from safepoint.wayback.replay.staged import Sink, Truncation


@dataclass(frozen=True)
class Work:
    """One old table that has changes: its rule, both tables, where its rows are staged, the temporary tables' names.

    `texts` are new key columns that are compared as text: an enum may have values that it has not in the twin.
    """

    rule: TableRule
    old: Table
    new: Table
    sink: Sink
    number: int
    texts: Collection[str] = ()

    @property
    def change(self) -> str:
        """The table of touched keys."""
        return f"pg_temp.sp_change_{self.number}"

    @property
    def out(self) -> str:
        """The table of rows in the old shape."""
        return f"pg_temp.sp_out_{self.number}"

    @property
    def stage(self) -> str:
        """The staged changes."""
        return f"pg_temp.{self.sink.stage}"

    @property
    def staged_at(self) -> str:
        """The staged row's place of a change `c`."""
        return "c.n" if self.rule.key else "c.source"

    @property
    def emptied(self) -> str:
        """Whether a change `c` is of a row that only a TRUNCATE took: it is staged nowhere."""
        return "c.n < 0" if self.rule.key else "c.source IS NULL"

    @property
    def moves(self) -> bool:
        """Whether rows may have got another key (without one: other values), or have gone to another partition."""
        return bool(self.sink.moves or (self.new.parted_by and self.sink.others))

    @property
    def keys(self) -> tuple[tuple[Column, Column], ...]:
        """The key's columns: old, new."""
        columns = ((self.old.by_name[old], self.new.by_name[new]) for old, new in self.rule.key)
        return tuple(
            (old, replace(new, type="text", base="text") if new.name in self.texts else new) for old, new in columns
        )


@dataclass(frozen=True)
class Scope:
    """What counts: transactions that are put aside whole do not; or, where it is of these (`aside`), nothing else.

    `types` are the types that the twin's server knows.
    """

    truncations: Sequence[Truncation]
    types: Collection[str]
    excluding: bool = False
    aside: bool = False

    def of(self, work: Work) -> tuple[Truncation, ...]:
        """The last truncation of each of the table's leaves."""
        last = {one.twin or one.leaf: one for one in self.truncations if one.table == work.new.name}
        return tuple(last.values())

    def condition(self, work: Work) -> str:
        """Which staged rows count."""
        parts = [f"NOT (s._sp_leaf = {one.relation} AND s._sp_at < {one.at})" for one in self.of(work)]
        if one := self.counting("s"):
            parts.append(one)
        return " AND ".join(parts) or "true"

    def counting(self, row: str) -> str:
        """Which staged rows are of a transaction that counts; empty where all are."""
        there = f"EXISTS (SELECT FROM pg_temp.sp_excluded x WHERE x.tx = {row}._sp_tx)"
        return there if self.aside else f"NOT {there}" if self.excluding else ""


def quoted(table: Table) -> str:
    """The table as it stands in SQL."""
    return f"{quote(table.schema)}.{quote(table.relation)}"


def rows_of(table: Table) -> str:
    """The table's own rows, as they stand in SQL: a table that inherits from it is a table of its own here, whose keys
    may be the same. The rows of a partitioned table are its partitions'."""
    return quoted(table) if table.partitioned else f"ONLY {quoted(table)}"


def refers(key: ForeignKey, parent: str, child: str, columns: Sequence[str] = ()) -> str:
    """Whether the row `child` refers to the row `parent`, as SQL; `columns`: what the key's own are called there."""
    collations = key.collations or (None,) * len(key.columns)
    return " AND ".join(
        f"{parent}.{quote(other)} = {child}.{quote(own)}" + ("" if collation is None else f" COLLATE {collation}")
        for other, own, collation in zip(key.parent_columns, columns or key.columns, collations, strict=True)
    )


def oid_of(relation: str) -> str:
    """The oid of `schema.relation` as SQL, NULL where there is none. Neither name is quoted: each may have dots in it,
    and capitals."""
    return (
        "(SELECT l.oid FROM pg_class l JOIN pg_namespace s ON s.oid = l.relnamespace "
        f"WHERE s.nspname || '.' || l.relname = {literal(relation)})"
    )
