"""What was staged of the spool, and how its rows stand in the twin's temporary tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from safepoint.wayback.mapping.catalogue import Table

INSERT, UPDATE, DELETE, MOVE = 0, 1, 2, 3
"""What a staged row is. A change of the key is two of them: DELETE of the old key, MOVE to the new one; and so is any
change of a row without a key."""

META: Final = ("_sp_at", "_sp_tx", "_sp_leaf", "_sp_from", "_sp_unchanged")
TRANSACTIONS: Final = "sp_transactions"
MISSED: Final = "sp_missed"
"""Transactions with changes of relations that nothing is staged of."""


MOST: Final = 100 << 20
"""Bytes that the values of one row may have together in a line of the stash."""


@dataclass
class Sink:
    """The staged rows of one new table, of them `others` that are not INSERT. `stage` is the temporary table's name,
    `leaves` are the partitions that rows are in, by oid. No row has more bytes than `largest`. From the place `reread`
    on nothing but what mappers read was written to; 0: there is no such row. `packed` are columns that stand in one
    array; `stage` is a view then."""

    table: Table
    stage: str
    rows: int = 0
    moves: int = 0
    others: int = 0
    unchanged: int = 0
    reread: int = 0
    leaves: dict[int, str] = field(default_factory=dict)
    buffer: list[bytes] = field(default_factory=list, repr=False)
    size: int = 0
    packed: tuple[str, ...] = ()
    largest: int = 0

    @property
    def bulky(self) -> bool:
        """Whether rows may be larger than `MOST`: what an UPDATE left alone is filled in later."""
        return self.largest > MOST or self.unchanged > 0

    @property
    def rows_in(self) -> str:
        """The table that `stage` shows, which is that one itself where nothing is packed."""
        return f"{self.stage}_rows" if self.packed else self.stage

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are staged: generated ones are computed again, where the log has them at all."""
        return tuple(column.name for column in self.table.columns if not column.generated)

    @property
    def own(self) -> tuple[str, ...]:
        """Those of them that the table has: not what mappers make of its rows."""
        return tuple(name for name in self.columns if self.table.by_name[name].made is None)


@dataclass(frozen=True)
class Truncation:
    """A TRUNCATE, by its place in the order. `leaf` is the partition that was named, or the table itself.

    `twin`: what the twin calls that partition, where it is another name; `bounds`: SQL that is true of its rows, where
    the twin has none for them alone.
    """

    table: str
    leaf: str
    relation: int
    at: int
    transaction: int
    twin: str | None = None
    bounds: str | None = None


@dataclass
class Staged:
    """What was staged, at places up to `at`. `last_lsn` is the commit of the last transaction; 0 when there was none.

    `unknown` are relations with changes that the catalogue does not have: an extension's own, or new since. `end` is
    the spool's offset behind what was read; 0 where transactions before it were left for later.
    """

    sinks: dict[str, Sink] = field(default_factory=dict)
    truncations: list[Truncation] = field(default_factory=list)
    transactions: int = 0
    changes: int = 0
    last_lsn: int = 0
    at: int = 0
    unknown: set[str] = field(default_factory=set)
    end: int = 0
