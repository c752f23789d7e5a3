"""What was written since the launch, row by row and with its user: for a rollback that does not carry it back.

A rollback never loses an acknowledged transaction silently (law 3): this list is what people are told from.
"""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from safepoint.errors import Interrupted
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.pgoutput import Relation
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.affected.counting import UserCounts
from safepoint.wayback.affected.lines import HEADINGS, Row, describe
from safepoint.wayback.affected.owners import Owners, Schema
from safepoint.wayback.affected.row_versions import rows_since, rows_unread
from safepoint.wayback.capture.capture import CaptureFacts
from safepoint.wayback.capture.changes import Change, in_order
from safepoint.wayback.capture.settling import settling
from safepoint.wayback.capture.spool import read_changes

_READER: Final = "-c default_transaction_read_only=on"
_CHUNK: Final = 4_000
_GIANT: Final = 20_000
_SIZE: Final = 16 << 20  # characters
_PREVIEW: Final = 200


class Told(Protocol):
    """What gives the listed changes their fates, and is shown each line."""

    def fate(self, change: Change, /) -> tuple[str, str]:
        """What became of it, and why."""

    def add(self, row: Row, /) -> None:
        """A line of the list, with its fate in it."""

    def renames(self, connection: Connection, spool: Path, /) -> Callable[[Relation], Relation]:
        """What gives a captured relation the names that it has now."""

    def unwritten(self) -> Iterator[Change]:
        """What is listed with the captured changes, in the order of its transactions."""


class _Untold:
    """Nothing is known of any fate."""

    def fate(self, _change: Change, /) -> tuple[str, str]:
        return "", ""

    def add(self, _row: Row, /) -> None:
        pass

    def renames(self, _connection: Connection, _spool: Path, /) -> Callable[[Relation], Relation]:
        return lambda relation: relation

    def unwritten(self) -> Iterator[Change]:
        return iter(())


UNTOLD: Final = _Untold()


@dataclass(frozen=True)
class Written:
    """The list in numbers. `tables` counts actions by table; `users` counts rows by user (without housekeeping), of the
    first of the `user_count` users that there are.

    `complete` False means that something may have been written that it does not have. `notes` say what it cannot know,
    and why no user is known where none could be asked for.
    """

    file: str
    transactions: int
    rows: int
    users: dict[str, int]
    user_count: int
    unknown_rows: int
    housekeeping_rows: int
    tables: dict[str, dict[str, int]]
    first: str | None
    last: str | None
    complete: bool
    notes: tuple[str, ...]
    preview: tuple[Row, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the ledger and the report, which more people read than the list: without what anybody wrote."""
        return {name: value for name, value in asdict(replace(self, preview=())).items() if name != "preview"}


def list_written(
    target: Target,
    spool: Path,
    out: Path,
    *,
    user_table: str = "auth_user",
    user_label: str = "username",
    given: Mapping[str, str] | None = None,
    cancelled: Cancelled = never,
    told: Told = UNTOLD,
    missing: tuple[str, ...] = (),
    lost_since: int | None = None,
) -> Written:
    """List what the spool holds. Memory does not grow with it.

    Args:
        target: the migrated database, under its present name.
        out: the CSV file to write: one line per row, see `HEADINGS`; values of secret columns are masked. It holds
            personal data: only its owner may read it.
        given: the plan's own SQL, see `config.Wayback.affected`.
        told: gives each change its fate, and is shown each line.
        missing: what cannot be in the spool, a sentence each.
        lost_since: of a capture that was lost, the transaction id that it began at. What it has not read is listed by
            the rows that stand now; all tables are read for it.

    Raises:
        CaptureLost: the spool is damaged.
    """
    users = _Users(user_table, user_label, given or {})

    def changes(connection: Connection, schema: Schema) -> Iterator[Change]:
        yield from in_order(read_changes(spool, told.renames(connection, spool)), told.unwritten())
        if lost_since is not None:
            yield from rows_unread(connection, spool, lost_since, schema.primary_keys)

    return _listed(target, changes, out, users, cancelled, told, notes=missing)


def list_rows_since(
    target: Target,
    facts: CaptureFacts,
    out: Path,
    *,
    user_table: str = "auth_user",
    user_label: str = "username",
    given: Mapping[str, str] | None = None,
    cancelled: Cancelled = never,
    told: Told = UNTOLD,
) -> Written:
    """The list where changes could not be decoded: every row whose newest version was written since the capture
    was armed. Reads all tables once. What it cannot know is said in `notes`."""
    notes = facts.promises

    def rows(connection: Connection, _schema: Schema) -> Iterator[Change]:
        return rows_since(connection, facts.start_xid)

    users = _Users(user_table, user_label, given or {})
    return _listed(target, rows, out, users, cancelled, told, notes=notes)


@dataclass(frozen=True)
class _Users:
    """Where users stand, and the plan's own SQL."""

    table: str
    label: str
    given: Mapping[str, str]


def _listed(
    target: Target,
    source: Any,
    out: Path,
    users: _Users,
    cancelled: Cancelled,
    told: Told,
    *,
    notes: tuple[str, ...],
) -> Written:
    began = time.monotonic()
    tally = _Tally()
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        connect(target, application_name="safepoint listing", options=_READER) as connection,
        # A second one, as the first may be in the middle of reading a table.
        connect(target, application_name="safepoint listing", options=_READER) as asking,
        settling(out) as file,
    ):
        owners = Owners(asking, users.table, users.label, users.given)
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        _go_on(cancelled, out)
        for chunk in _chunks(source(connection, owners.schema)):
            _go_on(cancelled, out)
            for row in describe(chunk, owners.of(chunk), owners.schema, told.fate):
                writer.writerow(row.cells())
                tally.add(row)
                told.add(row)
    return tally.written(out, (*notes, *owners.faults), not notes, time.monotonic() - began)


def _go_on(cancelled: Cancelled, out: Path) -> None:
    if cancelled():
        raise Interrupted("The listing was stopped.", subject=str(out), remedy="Run it again.")


def _chunks(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Some thousand changes at a time, cut between transactions unless one is a giant, by its rows or by their size."""
    chunk: list[Change] = []
    size = 0
    for change in changes:
        whole = not chunk or change.transaction != chunk[-1].transaction
        if size >= _SIZE or len(chunk) >= _GIANT or (len(chunk) >= _CHUNK and whole):
            yield chunk
            chunk, size = [], 0
        chunk.append(change)
        size += sum(len(value) for row in (change.new, change.old) for value in row.values() if isinstance(value, str))
    if chunk:
        yield chunk


class _Tally:
    """Counts while the list goes by."""

    def __init__(self) -> None:
        self.rows = self.transactions = self.unknown = self.housekeeping = 0
        self.users = UserCounts()
        self.tables: dict[str, Counter[str]] = {}
        self.preview: list[Row] = []
        self.first: str | None = None
        self.last: str | None = None
        self._at: tuple[int, str] | None = None

    def add(self, row: Row) -> None:
        self.rows += 1
        if self._at != (row.xid, row.commit_lsn):
            self._at = (row.xid, row.commit_lsn)
            self.transactions += 1
        self.first = self.first or row.committed_at
        self.last = row.committed_at
        self.tables.setdefault(row.table, Counter())[row.action] += 1
        if row.housekeeping:
            self.housekeeping += 1
        elif row.user_from == "unknown":
            self.unknown += 1
        else:
            self.users.add(row.user)
        if len(self.preview) < _PREVIEW and not row.housekeeping:
            self.preview.append(row)

    def written(self, out: Path, notes: tuple[str, ...], complete: bool, seconds: float) -> Written:
        users, count = self.users.ended(_PREVIEW)
        return Written(
            file=str(out),
            transactions=self.transactions,
            rows=self.rows,
            users=users,
            user_count=count,
            unknown_rows=self.unknown,
            housekeeping_rows=self.housekeeping,
            tables={table: dict(counts) for table, counts in sorted(self.tables.items())},
            first=self.first,
            last=self.last,
            complete=complete,
            notes=notes,
            preview=tuple(self.preview),
            seconds=round(seconds, 3),
        )
