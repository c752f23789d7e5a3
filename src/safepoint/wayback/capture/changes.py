"""What the log says of a row: pgoutput's messages as changes with names to their values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from safepoint.postgres import pgoutput
from safepoint.postgres.pgoutput import Value

# "insert or update" is what a row itself tells, where the log could not be read.
Action = Literal["insert", "update", "delete", "truncate", "insert or update"]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that committed after the launch."""

    xid: int
    commit_lsn: int
    committed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row (or emptied table). `new` is the row as it is then; `old` what the server told of it before.

    Values are PostgreSQL's text; a value that is `UNCHANGED` is large and was not touched. `identity` is the
    replica identity's columns (empty under REPLICA IDENTITY FULL, where every column belongs to it).
    """

    transaction: Transaction
    relation: pgoutput.Relation
    action: Action
    new: Mapping[str, Value]
    old: Mapping[str, Value]
    identity: Mapping[str, Value]

    @property
    def table(self) -> str:
        """`schema.table`."""
        return self.relation.qualified


def changes_of(
    transaction: Transaction, message: pgoutput.AnyMessage, relations: Mapping[int, pgoutput.Relation]
) -> Iterable[Change]:
    """The changes that a message tells of; none where it is not about rows.

    Args:
        relations: what was described so far, by oid.
    """
    match message:
        case pgoutput.Insert(oid, new):
            relation = relations[oid]
            row = _named(relation, new)
            return [Change(transaction, relation, "insert", row, {}, _identity(relation, row))]
        case pgoutput.Update(oid, new, old, old_is_key):
            relation = relations[oid]
            row, before = _named(relation, new), _named(relation, old, key_only=old_is_key)
            identity = _identity(relation, before or row)
            return [Change(transaction, relation, "update", row, before, identity)]
        case pgoutput.Delete(oid, old, old_is_key):
            relation = relations[oid]
            before = _named(relation, old, key_only=old_is_key)
            return [Change(transaction, relation, "delete", {}, before, _identity(relation, before))]
        case pgoutput.Truncate(oids):
            return [Change(transaction, relations[oid], "truncate", {}, {}, {}) for oid in oids if oid in relations]
        case _:
            return []


def in_order(changes: Iterator[Change], others: Iterator[Change]) -> Iterator[Change]:
    """Both in the order of commits; of one transaction the others come last."""
    other = next(others, None)
    for change in changes:
        while other is not None and other.transaction.commit_lsn < change.transaction.commit_lsn:
            yield other
            other = next(others, None)
        yield change
    if other is not None:
        yield other
    yield from others


def _named(relation: pgoutput.Relation, values: pgoutput.Tuple | None, *, key_only: bool = False) -> dict[str, Value]:
    if values is None:
        return {}
    pairs = zip(relation.columns, values, strict=True)
    return {column.name: value for column, value in pairs if column.key or not key_only}


def _identity(relation: pgoutput.Relation, row: Mapping[str, Value]) -> dict[str, Value]:
    if relation.replica_identity == "f":
        return {}
    return {column.name: row[column.name] for column in relation.columns if column.key and column.name in row}
