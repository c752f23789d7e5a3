"""Whether the migrations can be undone: they are, on the migrated copy, and what is left is compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from safepoint.django.pending import Reversal
from safepoint.rehearsal.changes import ColumnChange, TableChange
from safepoint.rehearsal.examples import Example

UndoVerdict = Literal["exact", "loses", "fails"]


@dataclass(frozen=True)
class TableUndo:
    """One table after undoing. `lost` says by column what did not come back, and `examples` are some such rows.

    Where undoing failed, `fails` are the tables that were not as before when it stopped; the `examples` of the one that
    it stopped at are rows that cannot go back.
    """

    name: str
    verdict: UndoVerdict
    rows: int
    lost: tuple[str, ...]
    examples: tuple[Example, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "lost": list(self.lost), "examples": [one.as_json() for one in self.examples]}


@dataclass(frozen=True)
class Undo:
    """How undoing went. `structure` names definitions that are not as they were; `error` where it failed."""

    verdict: UndoVerdict
    seconds: float
    tables: tuple[TableUndo, ...]
    structure: tuple[str, ...]
    error: str | None = None
    migration: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            **asdict(self),
            "tables": [table.as_json() for table in self.tables],
            "structure": list(self.structure),
        }


def judge_undo(
    reversal: Reversal,
    found: Sequence[TableChange],
    structure: Sequence[str],
    examples: Mapping[str, tuple[Example, ...]] | None = None,
) -> Undo:
    """Put it together. Where undoing failed, a table that is not as before has not failed by itself; its definitions
    are not told.

    Args:
        examples: some rows that did not come back, by table; where it failed, those that cannot.
    """
    given = examples or {}
    tables = tuple(_table(change, given) for change in found)
    if reversal.error is not None or reversal.left:
        error = reversal.error or f"these migrations stayed applied: {', '.join(reversal.left)}"
        tables = tuple(
            replace(one, verdict="fails", examples=given.get(one.name, ())) if one.lost or one.name in given else one
            for one in tables
        )
        return Undo("fails", round(reversal.seconds, 3), tables, (), error, reversal.migration)
    exact = all(table.verdict == "exact" for table in tables) and not structure
    return Undo("exact" if exact else "loses", round(reversal.seconds, 3), tables, tuple(structure))


def definition(kind: str, name: str, expected: str | None, found: str | None) -> str | None:
    """One definition that is not as it was, in words; None where only the order of a table's columns is another."""
    if expected is None or found is None:
        return f"{kind} {name} {'is gone' if found is None else 'stayed behind'}"
    ours, theirs = expected.splitlines(), found.splitlines()
    if kind == "relation" and sorted(ours) == sorted(theirs):
        return None
    lost = [line for line in ours if line not in theirs]
    new = [line for line in theirs if line not in ours]
    return f"{kind} {name}: was {'; '.join(lost) or 'without'}, is {'; '.join(new) or 'without'}"


def _table(change: TableChange, examples: Mapping[str, tuple[Example, ...]]) -> TableUndo:
    name = change.before or change.after or ""
    lost = []
    if change.after is None:
        lost.append("the table did not come back")
    if change.before is None:
        lost.append("the table stayed behind")
    else:
        lost += [f"{change.removed:,} rows are gone"] if change.removed else []
        lost += [f"{change.added:,} {'row' if change.added == 1 else 'rows'} stayed behind"] if change.added else []
    lost += [_words(column) for column in change.columns if column.kind not in ("identical",)]
    shown = examples.get(name, ()) if lost else ()
    return TableUndo(name, "loses" if lost else "exact", change.rows_before, tuple(lost), shown)


def _words(column: ColumnChange) -> str:
    if column.kind == "re-expressed":
        return f"{column.before or column.after}: other values than before"
    if column.kind == "removed":
        return f"{column.before}: the column did not come back"
    return str(column)
