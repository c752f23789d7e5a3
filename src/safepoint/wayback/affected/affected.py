"""Who is affected by a rollback: each row with its fate, gathered by user, for the people who have to tell them.

The replay says which rows it put aside and which values it stashed, by key; the spool says who wrote what. Both are
brought together in a small file of SQLite, so that memory grows neither with the rows nor with the users.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.pgoutput import Relation
from safepoint.postgres.target import Target
from safepoint.wayback.affected.accounts import TOLD, Account, Item, Told, told_of
from safepoint.wayback.affected.fates import Fates, Usual
from safepoint.wayback.affected.letters import Words, letter
from safepoint.wayback.affected.lines import Row, harmless
from safepoint.wayback.affected.owners import Owners, Person
from safepoint.wayback.capture.changes import Change
from safepoint.wayback.capture.settling import private, settling
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.expressions import literal
from safepoint.wayback.mapping.expressions import written as as_written
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.since import with_since

HEADINGS: Final = ("user", "name", "email", "first", "last", "carried", "carried_in_part", "stashed", "not_carried")
_ITEMS: Final = 20
"""How many changed rows of a user are shown for each thing that is told of them."""
_BATCH: Final = 500

SCHEMA: Final = """
CREATE TABLE aside (
    place INTEGER PRIMARY KEY, relation TEXT, key TEXT, xid INTEGER, action TEXT, kind TEXT, reason TEXT, kept INTEGER,
    line TEXT);
CREATE TABLE dangling (relation TEXT, key TEXT, reason TEXT);
CREATE TABLE users (user TEXT PRIMARY KEY, first TEXT, last TEXT,
    carried INTEGER DEFAULT 0, part INTEGER DEFAULT 0, stashed INTEGER DEFAULT 0, lost INTEGER DEFAULT 0);
CREATE TABLE items (user TEXT, told INTEGER, place INTEGER, at TEXT, relation TEXT, action TEXT, key TEXT, fate TEXT,
    reason TEXT, named TEXT, PRIMARY KEY (user, told, place)) WITHOUT ROWID;
CREATE TABLE rows (user TEXT, told INTEGER, relation TEXT, named TEXT, PRIMARY KEY (user, told, relation, named))
    WITHOUT ROWID;
CREATE TABLE gathered (notes TEXT);
"""
COUNT: Final = """
INSERT INTO users (user, first, last, carried, part, stashed, lost) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (user) DO UPDATE SET last = excluded.last, carried = carried + excluded.carried,
    part = part + excluded.part, stashed = stashed + excluded.stashed, lost = lost + excluded.lost
"""
_LAST: Final = """
UPDATE items SET at = ?1, fate = ?2, reason = ?3,
    action = CASE action WHEN 'insert' THEN CASE ?4 WHEN 'update' THEN action ELSE ?4 END ELSE ?4 END
WHERE user = ?5 AND told = ?6 AND relation = ?7 AND named = ?8
"""
_PLACES: Final[Mapping[str, int]] = {"carried": 2, "carried in part": 3, "stashed": 4, "not carried": 5}
_HELD: Final = 10_000


@dataclass(frozen=True)
class Totals:
    """`users` have something that was not carried whole, `whole` are the users who have not; the rest are rows.

    `unknown` rows were not carried whole, and lead to no user.
    """

    users: int
    whole: int
    unknown: int
    carried: int
    part: int
    stashed: int
    lost: int


@dataclass(frozen=True)
class Affected:
    """Who is affected. `accounts` are the first, those who lost most first; all users stand in the file `letters`."""

    totals: Totals
    file: str
    letters: str
    notes: tuple[str, ...]
    accounts: tuple[Account, ...] = field(repr=False, default=())

    def as_json(self) -> dict[str, Any]:
        """For the ledger: without the users' names and addresses."""
        return {
            **asdict(self.totals),
            "file": self.file,
            "letters": self.letters,
            "notes": list(self.notes),
        }


class Gathering:
    """Gives each listed change its fate, and gathers by user. As a context: its file goes at the end, unless kept.

    The list is one step of a rollback, what is told from it the next: in between, the file stays.
    """

    def __init__(self, folder: Path, *, kept: bool = False) -> None:
        self._path = folder / "affected.sqlite"
        self.notes: tuple[str, ...] = ()
        self._stays = False
        self._counts: dict[str, list[Any]] = {}
        self._unnamed = 0
        if not kept:
            self._path.unlink(missing_ok=True)
            private(self._path).close()
        self.store = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=rw", isolation_level=None, uri=True)
        if not kept:
            self.store.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN; {SCHEMA}")

    @classmethod
    def kept(cls, folder: Path) -> Gathering | None:
        """What an earlier step kept; None where it was not kept whole."""
        try:
            found = cls(folder, kept=True)
        except sqlite3.Error:
            return None
        try:
            row = found.store.execute("SELECT notes FROM gathered").fetchone()
        except sqlite3.Error:
            row = None
        if row is None:
            found.store.close()
            return None
        found.notes = tuple(json.loads(row[0]))
        return found

    def keep(self, notes: Sequence[str]) -> None:
        """All is gathered: make it durable, and let the file stay. `notes` are what the list cannot know."""
        self._count()
        self.store.execute("INSERT INTO gathered VALUES (?)", (json.dumps(list(notes)),))
        self.store.execute("COMMIT")
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        self._stays = True

    def __enter__(self) -> Gathering:
        return self

    def __exit__(self, *_error: object) -> None:
        self.store.close()
        if not self._stays:
            self._path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Count one listed row."""
        if row.housekeeping:
            return
        counts = self._counts.setdefault(row.user, [row.committed_at, "", 0, 0, 0, 0])
        counts[1] = row.committed_at
        counts[_PLACES[row.fate]] += 1
        if len(self._counts) >= _HELD:
            self._count()
        if row.fate == "carried":
            return
        # Several changes of one row are told in one line: by the last of them, but that it is a new row.
        told = TOLD.index(told_of(row.fate, row.reason))
        self._unnamed += not row.named
        one = (row.user, told, row.table, row.named or f"#{self._unnamed}")
        if not self.store.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", one).rowcount:
            self.store.execute(_LAST, (row.committed_at, row.fate, row.reason, row.action, *one))
            return
        found = self.store.execute("SELECT count(*) FROM items WHERE user = ? AND told = ?", one[:2])
        (place,) = found.fetchone()
        if place < _ITEMS:
            shown = (row.committed_at, row.table, row.action, row.key, row.fate, row.reason)
            values = (*one[:2], place, *shown, one[3])
            self.store.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _count(self) -> None:
        """Bring what was counted into the file: memory does not grow with the users."""
        self.store.executemany(COUNT, [(user, *counts) for user, counts in self._counts.items()])
        self._counts.clear()

    def accounts(self, owners: Owners, email: str | None, names: tuple[str, ...]) -> Iterator[Account]:
        """The affected users, who lost most first; those of no user last."""
        self._count()
        query = (
            "SELECT user, first, last, carried, part, stashed, lost FROM users WHERE part + stashed + lost > 0 "
            "ORDER BY user = '', lost DESC, stashed + part DESC, user"
        )
        with closing(self.store.execute(query)) as cursor:
            while batch := cursor.fetchmany(_BATCH):
                people = owners.people([row[0] for row in batch if row[0]], email, names)
                for row in batch:
                    person = people.get(row[0], Person(row[0]))
                    account = Account(*row)
                    account = replace(account, items=self._items(row[0]), rows=self._rows(row[0]))
                    yield replace(account, name=person.name, email=person.email)

    def _items(self, user: str) -> tuple[Item, ...]:
        rows = self.store.execute(
            "SELECT at, relation, action, key, fate, reason FROM items WHERE user = ? ORDER BY told, place", (user,)
        )
        return tuple(Item(*row) for row in rows)

    def _rows(self, user: str) -> dict[Told, int]:
        """How many rows each thing is told of."""
        counts = self.store.execute("SELECT told, count(*) FROM rows WHERE user = ? GROUP BY 1", (user,))
        return {TOLD[told]: int(count) for told, count in counts.fetchall()}

    def totals(self) -> Totals:
        """The sums over all users."""
        self._count()
        row = self.store.execute(
            "SELECT count(*) FILTER (WHERE user <> '' AND part + stashed + lost > 0), "
            "count(*) FILTER (WHERE user <> '' AND part + stashed + lost = 0), "
            "coalesce(sum(part + stashed + lost) FILTER (WHERE user = ''), 0), coalesce(sum(carried), 0), "
            "coalesce(sum(part), 0), coalesce(sum(stashed), 0), coalesce(sum(lost), 0) FROM users"
        ).fetchone()
        return Totals(*(int(value) for value in row))


@dataclass(frozen=True)
class UserTable:
    """Where the users stand, as the application says; see `django.inspector`."""

    table: str = "auth_user"
    label: str = "username"
    email: str | None = "email"
    names: tuple[str, ...] = ("first_name", "last_name")

    @classmethod
    def of(cls, project: Mapping[str, Any]) -> UserTable:
        """From what the inspector found; Django's own where it found nothing."""
        columns = project.get("user_columns") or {}
        if not project.get("user_table"):
            return cls()
        label, names = str(columns.get("label") or "username"), tuple(columns.get("names") or ())
        return cls(str(project["user_table"]), label, columns.get("email"), names)


def write_letters(
    gathering: Gathering, target: Target, users: UserTable, words: Words, out: Path, *, shown: int
) -> tuple[Account, ...]:
    """A CSV file with a line for each affected user, to merge into mails; the first of them as data.

    It holds names and e-mail addresses: only its owner may read it.
    """
    first: list[Account] = []
    with (
        connect(target, application_name="safepoint affected", options=_READER) as connection,
        settling(out) as file,
    ):
        owners = Owners(connection, users.table, users.label)
        writer = csv.writer(file)
        writer.writerow((*HEADINGS, "text"))
        for account in gathering.accounts(owners, users.email, users.names):
            if len(first) < shown or not account.user:  # what leads to no user stands nowhere else
                first.append(account)
            if account.user:
                row = (account.user, account.name, account.email, account.first, account.last)
                counts = (account.carried, account.part, account.stashed, account.lost)
                writer.writerow([harmless(cell) for cell in (*row, *counts, letter(account, words))])
    return tuple(first)


_READER: Final = "-c default_transaction_read_only=on"


def catalogue_of(target: Target) -> Catalogue:
    """The migrated database's tables."""
    with connect(target, application_name="safepoint affected") as connection:
        return read_catalogue(connection)


def usual_values(target: Target, mapping: WayBack | None, django: Mapping[str, Mapping[str, str | None]]) -> Usual:
    """What the columns without a home in the old schema have in a row in which nobody filled them in.

    By Django's default and the database's own. PostgreSQL is asked how it writes them, each in its column's type: the
    log has `f` for False, and `0.00` for a decimal's 0.

    Args:
        django: new table, as Django calls it -> column -> Django's default.
    """
    found: dict[str, dict[str, set[str]]] = {}
    with connect(target, application_name="safepoint affected", options=_READER) as connection:
        catalogue = read_catalogue(connection)
        for rule in () if mapping is None else with_since(mapping, catalogue).tables:
            table = catalogue.tables.get(rule.new)
            defaults = {} if table is None else catalogue.of_django(django, table) or {}
            for name in rule.stash:
                column = None if table is None else table.by_name.get(name)
                if column is None:
                    continue
                default = defaults.get(name)
                given = [] if default is None else [literal(default)]
                given += [] if column.default is None or "nextval" in column.default else [column.default]
                for one in given:
                    with suppress(psycopg.Error):  # not of that type; then no row has it
                        row = connection.execute(sql.SQL(f"SELECT {as_written(f'({one})::{column.type}')}")).fetchone()
                        if row is not None and row[0] is not None:
                            found.setdefault(rule.new, {}).setdefault(name, set()).add(str(row[0]))
    return found


@dataclass(frozen=True)
class Telling:
    """For `written.list_written`: gives each line its fate, and gathers by user."""

    fates: Fates
    gathering: Gathering
    usual: Usual

    def fate(self, change: Change) -> tuple[str, str]:
        """What became of one change, and why."""
        return self.fates.of(change, self.usual)

    def renames(self, connection: Connection, spool: Path) -> Callable[[Relation], Relation]:
        """What gives a captured relation the names that it has now."""
        return self.fates.renames(connection, spool).shown

    def unwritten(self) -> Iterator[Change]:
        """Rows that were put aside though nobody wrote to them."""
        return self.fates.unwritten()

    def add(self, row: Row) -> None:
        """Count a line."""
        self.gathering.add(row)
