"""A line of the list of what was written: which row, by which transaction, whose, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

from safepoint.postgres.masking import is_secret, masked
from safepoint.postgres.pgoutput import format_lsn
from safepoint.wayback.affected.owners import Schema
from safepoint.wayback.capture.changes import Change, Transaction

# Django's own book-keeping: listed too, but nobody has to be told of a session.
HOUSEKEEPING: Final = frozenset(
    {"django_session", "django_admin_log", "django_migrations", "django_content_type", "auth_permission"}
)
HEADINGS: Final = (
    "committed_at",
    "xid",
    "commit_lsn",
    "table",
    "action",
    "key",
    "user",
    "user_from",
    "housekeeping",
    "values",
    "fate",
    "reason",
)


@dataclass(frozen=True)
class Row:
    """One line of the list. `user_from` says how the user is known: by the row, by its transaction, or unknown.

    `fate` is empty until the replay is done: see `affected`. `named`: a digest of its key, whose values `key` may mask
    or cut; empty where it has none.
    """

    committed_at: str
    xid: int
    commit_lsn: str
    table: str
    action: str
    key: str
    user: str
    user_from: str
    housekeeping: bool
    values: str
    fate: str = ""
    reason: str = ""
    named: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)

    def cells(self) -> tuple[Any, ...]:
        """Under the `HEADINGS`; what people wrote is made harmless."""
        return (
            self.committed_at,
            self.xid,
            self.commit_lsn,
            harmless(self.table),
            self.action,
            harmless(self.key),
            harmless(self.user),
            self.user_from,
            self.housekeeping,
            harmless(self.values),
            self.fate,
            harmless(self.reason),
        )


def describe(
    changes: Sequence[Change],
    users: Sequence[str | None],
    schema: Schema,
    fate: Callable[[Change], tuple[str, str]] = lambda _: ("", ""),
) -> Iterator[Row]:
    """The lines for these changes. Pure.

    A row that leads to no user (a deleted one, of which the log tells only the key) gets the user of its
    transaction, if the transaction has just one.
    """
    by_transaction: dict[tuple[int, int], set[str]] = {}
    for change, user in zip(changes, users, strict=True):
        found = by_transaction.setdefault(_named(change.transaction), set())
        if user is not None:
            found.add(user)
    at, others, committed, lsn = None, set[str](), "", ""
    for change, user in zip(changes, users, strict=True):
        if change.transaction is not at:  # told once for all of its rows
            at = change.transaction
            others = by_transaction[_named(at)]
            committed = at.committed_at.isoformat(timespec="milliseconds") if at.committed_at else "unknown"
            lsn = format_lsn(at.commit_lsn)
        source = "row" if user is not None else "transaction" if len(others) == 1 else "unknown"
        name = user if user is not None else next(iter(others)) if len(others) == 1 else ""
        became, why = fate(change)
        key = _key(change, schema)
        yield Row(
            committed_at=committed,
            xid=at.xid,
            commit_lsn=lsn,
            table=_short(change.table),
            action=change.action,
            key=_summary(key, change.table),
            user=name,
            user_from=source,
            housekeeping=change.relation.name in HOUSEKEEPING,
            values=_summary(change.new or change.old, change.table),
            fate=became,
            reason=why,
            named=_digest(key),
        )


def _digest(key: Mapping[str, Any]) -> str:
    return blake2b(repr(sorted(key.items())).encode(errors="replace"), digest_size=16).hexdigest() if key else ""


def _named(transaction: Transaction) -> tuple[int, int]:
    return transaction.xid, transaction.commit_lsn


def _key(change: Change, schema: Schema) -> Mapping[str, Any]:
    columns = schema.primary_keys.get(change.table, ())
    row = {**change.old, **change.new}
    return {column: row[column] for column in columns if column in row} or change.identity


def _summary(values: Mapping[str, Any], table: str) -> str:
    """`name=value` pairs, long values cut, secret ones masked."""
    return "; ".join([f"{name}={_shown(name, value, table)}" for name, value in values.items()])


def _shown(name: str, value: Any, table: str) -> str:
    known = value is None or isinstance(value, str) or is_secret(name, table)
    return masked(name, value, table) if known else "(unchanged)"


def _short(table: str) -> str:
    return table.removeprefix("public.")


def harmless(cell: Any) -> Any:
    """A cell that begins like a formula is run by spreadsheets; an apostrophe stops that."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
