"""Migrating backwards, tried on a copy of the migrated database of its own, beside all else that is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.prints import Fingerprint, compare
from safepoint.django.inspector import IDENTITY
from safepoint.django.managepy import Manage
from safepoint.django.pending import Pending, Reversal, reverse
from safepoint.django.standby import Standby
from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.rehearsal import ground
from safepoint.rehearsal.catalogue import Picture, read_picture
from safepoint.rehearsal.changes import Side, as_before, by_name, by_table_name, differences
from safepoint.rehearsal.examples import examples
from safepoint.rehearsal.refused import refused_rows, refused_table
from safepoint.rehearsal.undo import Undo, definition, judge_undo
from safepoint.wayback.twin.twin import furnish, look_up

T = TypeVar("T")
Rows = Mapping[str, tuple[int, str]]

# As fingerprints are taken (see `backup.contents`): the text of values must not depend on who reads them.
READING: Final = "-c search_path=pg_catalog -c lc_monetary=C -c row_security=off -c jit=off"
# Definitions in which undoing is compared: rows, sequences and columns are judged table by table.
_NOT_STRUCTURE: Final = ("table", "sequence", "large objects", "role", "setting", "encoding", "column")


@dataclass(frozen=True)
class Undoing:
    """What is undone: `manage` is pointed at the migrated database `at`, and so is `standby`, a process that waits.
    `before`, `picture` and `was` are how the database was before the migrations."""

    manage: Manage
    at: Target
    pending: Pending
    before: Target
    picture: Picture
    was: Fingerprint
    jobs: int
    standby: Standby | None = None

    def undo(self, cancelled: Cancelled) -> Undo:
        """Undo the migrations and compare.

        Raises:
            Refused: the application does not answer from `at`; nothing was undone.
            CommandFailed, DatabaseError, Interrupted: as the parts.
        """
        with connect(self.at) as connection:
            row = connection.execute(IDENTITY.encode()).fetchone()
        identity = "" if row is None else str(row[0])
        labels = self.pending.labels
        reversal = reverse(self.manage, labels, identity=identity, cancelled=cancelled, standby=self.standby)
        with connect(
            self.at
        ) as connection:  # as the picture of before was read: types by the names that they have there
            picture = read_picture(connection)
        ordering = as_before(self.picture, picture, pairing=by_name, former=by_table_name)
        now = fingerprint.take(self.at, jobs=self.jobs, cancelled=cancelled, version=self.was.format, ordering=ordering)
        was, now = (replace(one, roles={}, settings={}) for one in (self.was, now))
        if reversal.error is not None or reversal.left:
            return self._failed(reversal, picture, rows_of(was), rows_of(now))
        structure = [
            said
            for one in compare(was, now)
            if one.kind not in _NOT_STRUCTURE
            and (said := definition(one.kind, one.name, one.expected, one.found)) is not None
        ]
        with connect(self.before, options=READING) as one, connect(self.at, options=READING) as two:
            sides = Side(one, self.picture, rows_of(was)), Side(two, picture, rows_of(now))
            found = differences(*sides)
            rows = {change.before: examples(*sides, change) for change in found if change.before is not None}
        return judge_undo(reversal, found, structure, rows)

    def _failed(self, reversal: Reversal, picture: Picture, was: Rows, now: Rows) -> Undo:
        """Which tables are as before where it stopped, and the rows that it stopped at."""
        with connect(self.before, options=READING) as one, connect(self.at, options=READING) as two:
            found = differences(Side(one, self.picture, was), Side(two, picture, now))
        refused = reversal.refused
        table = None if refused is None else refused_table(picture, refused)
        if refused is None or table is None:
            return judge_undo(reversal, found, ())
        with connect(self.at) as connection:  # types and expressions are found where the application finds them
            return judge_undo(reversal, found, (), {table.name: refused_rows(connection, table, refused)})


def rows_of(printed: Fingerprint) -> Rows:
    """Rows and content of each table."""
    return {name: (table.rows, table.content) for name, table in printed.tables.items()}


def furnished_copy(source: Target, name: str) -> Target:
    """A copy that has its original's owner, settings and grants too. Nobody may be connected to the original.

    Raises:
        DatabaseError: PostgreSQL refused.
    """
    copy = ground.copy_of(source, name)
    with connect(source.on("template1")) as connection:
        original = look_up(connection, source.dbname)
        if original is None:
            raise DatabaseError(f"There is no database {source.dbname}.", subject=source.dbname)
        words = sql.Identifier(name), sql.Identifier(original.owner)
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*words))
        furnish(connection, original, connection, name, None)
    return copy


@contextmanager
def beside(work: Callable[[Cancelled], T], cancelled: Cancelled) -> Iterator[tuple[Cancelled, Callable[[], T]]]:
    """Carry out `work` on a thread of its own, beside the body. Gives what both are cancelled by, and what waits for
    the answer.

    Whichever fails first is what is raised, and it ends the other; leaving waits until that has ended.
    """
    ended, failed = threading.Event(), threading.Event()

    def over() -> bool:
        return cancelled() or ended.is_set()

    def guarded() -> T:
        try:
            return work(over)
        except BaseException:
            if not ended.is_set():
                failed.set()
                ended.set()
            raise

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal-beside") as pool:
        future = pool.submit(guarded)
        try:
            yield over, future.result
        except Interrupted as interrupted:
            ended.set()
            error = future.exception() if failed.is_set() and not cancelled() else None
            raise error or interrupted from None
        except BaseException:
            ended.set()
            raise
