"""Putting a snapshot onto a server of the user's: a new database beside the others, compared row by row at the end.

Nothing that is there already is changed: the database is new, roles that exist stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from safepoint.backup import unshown
from safepoint.backup.analysis import analyse
from safepoint.backup.fingerprint import take
from safepoint.backup.manifest import verify_files
from safepoint.backup.pouring import Pouring
from safepoint.backup.prints import Difference, compare, gathered, lost, unseen
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.refreshing import notes as of_views
from safepoint.backup.restoring import LACKED, create_database, locales, programs_for, under_locale
from safepoint.backup.roles import make_missing
from safepoint.backup.scattered import groups
from safepoint.backup.selection import left_out, select
from safepoint.backup.statements import for_database, own_comment
from safepoint.backup.traces import take_away
from safepoint.backup.unfinished import UNFINISHED, alone, is_left, make, mark
from safepoint.errors import DatabaseError, ProofFailed, Refused, SafepointError
from safepoint.postgres.connections import OWN_NAMES, Connection, connect, undisturbed
from safepoint.postgres.target import Target
from safepoint.progress import Report, never, silent

_GONE = "the new database was removed again; nothing else was touched"
_LEFT = (
    "the server did not let the unfinished database {} be removed; the same restore, given again, replaces it. "
    "Nothing else was touched"
)
_DONE = "made by Safepoint: restored from {} at {}"
_DIFFERS = "made by Safepoint: restored from {}, but NOT equal to it"


@dataclass(frozen=True)
class Placed:
    """A snapshot that stands as a database on a server, compared: `rows` in `tables` tables are equal to its own."""

    snapshot_id: str
    taken_at: str
    database: str
    only: tuple[str, ...]
    rows: int
    tables: int
    seconds: float
    roles_made: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For `restore --json`."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in ("only", "roles_made", "notes")}}


def place(
    folder: Path,
    target: Target,
    name: str,
    *,
    maintenance: str = "postgres",
    only: tuple[str, ...] = (),
    jobs: int = 2,
    report: Report = silent,
    extra: Path | None = None,
) -> Placed:
    """Restore a snapshot as a new database, and compare it with the snapshot's fingerprint.

    Args:
        folder: the snapshot's folder; each file is checked before the server is asked for anything.
        target: a login to the server; its database does not matter.
        name: of the new database.
        only: schemas and tables; the others are left out.
        extra: a folder with PostgreSQL programs to prefer.

    Raises:
        Refused: there is a database of that name, the server is too old, or `only` means nothing.
        ProofFailed: a file is damaged (nothing was touched), or the copy differs (it stands, and says so).
        DatabaseError: PostgreSQL refused; the new database is gone again.
    """
    began = time.monotonic()
    manifest = verify_files(folder, report=report)
    selection = select(manifest, only) if only else None
    with connect(target.on(maintenance), options=OWN_NAMES) as connection:
        login = undisturbed(connection, target)
    work = _Placement(
        folder.resolve(),
        manifest,
        programs_for(manifest, extra),
        login.on(name),
        target.on(maintenance),
        selection,
        jobs,
        report,
        never,
    )
    made, rows, tables, notes = work.run()
    return Placed(
        manifest.id,
        manifest.taken_at.isoformat(),
        name,
        tuple(only),
        rows,
        tables,
        round(time.monotonic() - began, 3),
        tuple(made),
        tuple(notes),
    )


@dataclass(frozen=True)
class _Placement(Pouring):
    """A pouring with all that is around it: the roles, the database itself, its settings, the comparison."""

    def run(self) -> tuple[list[str], int, int, list[str]]:
        """Roles, database, archive, the database's settings, and the comparison: roles that were made, rows and tables
        that are equal, notes.

        What was made is removed when it cannot be finished; one that differs stands, and says so.
        """
        with alone(self.maintenance, self.target.dbname) as connection:
            with self.asking():
                self._refuse(connection)
                made, notes = make_missing(connection, self.folder, self.manifest, self.listing)
                notes += [*unseen(self.manifest.fingerprint), *self._database(connection)]
            try:
                with under_locale(notes):
                    views = self.load_archive()
                notes += [*of_views(views), *self._properties()]
                with self.asking():
                    notes += analyse(self.target, report=self.report)
                rows, tables, more = self._compare(views)
            except ProofFailed:
                raise
            except BaseException as error:
                gone = self._take_back(made)
                if isinstance(error, DatabaseError):
                    error.found = _GONE if gone else _LEFT.format(self.target.dbname)
                raise
        return made, rows, tables, [*notes, *more]

    def _take_back(self, roles: list[str]) -> bool:
        """Remove what was made; whether all of it is gone."""
        try:
            with connect(self.maintenance, options=OWN_NAMES) as connection:
                self._drop(connection)
                for role in roles:
                    connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
        except (SafepointError, psycopg.Error):
            return False
        return True

    def _compare(self, views: Collection[str]) -> tuple[int, int, list[str]]:
        """Rows and tables that are equal, and what may differ (roles are the server's own)."""
        expected = self.manifest.fingerprint
        found = take(self.target, jobs=self.jobs, report=self.report, version=expected.format)
        if self.selection is not None:
            wanted = self.selection.tables
            whole = groups(expected.structure)
            ours = gathered({name: expected.tables[name] for name in wanted}, whole)
            theirs = gathered({name: found.tables[name] for name in wanted if name in found.tables}, whole)
            differences: tuple[Difference, ...] = tuple(
                Difference("table", name, str(one), str(theirs.get(name)))
                for name, one in sorted(ours.items())
                if one != theirs.get(name)
            )
        else:
            wanted = frozenset(expected.tables)
            differences = compare(expected, found, unfilled=views)
        faults = [difference for difference in differences if difference.kind != "role"]
        comment = _DIFFERS if faults else _DONE
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        with self.asking(), connect(self.target) as connection:
            taken = take_away(self.target)
            below = own_comment((self.folder / PROPERTIES).read_text(encoding="utf-8"))
            mark(connection, self.target.dbname, "\n".join(filter(None, [comment.format(self.manifest.id, at), below])))
        if faults:
            raise self._differs(faults)
        notes = [
            f"role {one.name} is another one here than in the snapshot: {one.found}, not {one.expected}"
            for one in differences
        ]
        return (
            sum(expected.tables[name].rows for name in wanted),
            len(wanted),
            [*notes, *taken, *(left_out(self.manifest, self.selection) if self.selection else lost(expected, found))],
        )

    def _refuse(self, connection: Connection) -> None:
        major = self.manifest.source.server_version_num // 10000
        if connection.info.server_version // 10000 < min(self.programs.major, major):
            raise Refused(
                "The server is older than the one that the snapshot was taken from.",
                subject=str(self.target),
                expected=f"PostgreSQL {major} or newer",
                found=f"PostgreSQL {connection.info.server_version // 10000}",
                remedy="Restore it into a server of that version, or a newer one.",
            )
        row = connection.execute(
            "select shobj_description(oid, 'pg_database'), datconnlimit from pg_database where datname = %s",
            [self.target.dbname],
        ).fetchone()
        if row is None:
            return
        if is_left(row[0], row[1], self.manifest.id):
            self._drop(connection)  # our own, left by a restore that was killed
            return
        raise Refused(
            f"There is a database {self.target.dbname} already; it is not touched.",
            subject=self.target.dbname,
            remedy="Choose another name with --into, or take the live database's place with --over.",
        )

    def _database(self, connection: Connection) -> list[str]:
        notes: list[str] = []
        source = replace(self.manifest.source, database=self.target.dbname)
        for words in locales(source):
            try:
                create = create_database(source, words, self.manifest.fingerprint.encoding)
                make(connection, self.target.dbname, create, UNFINISHED.format(self.manifest.id))
            except (
                psycopg.errors.WrongObjectType,
                psycopg.errors.InvalidParameterValue,
                psycopg.errors.FeatureNotSupported,
                psycopg.errors.UndefinedFile,
            ) as error:
                notes.append(f"this server {LACKED}, so texts are sorted otherwise: {error.diag.message_primary}")
            else:
                return notes
        raise DatabaseError(
            f"The database {self.target.dbname} cannot be made like its source: {'; '.join(notes)}",
            subject=self.target.dbname,
            remedy="Install the locale on the server's machine.",
        )

    def _properties(self) -> list[str]:
        """Settings, grants and limits of the database itself; one that is refused is told.

        From within: the server keeps such texts in the encoding of whoever says them.
        """
        notes = []
        script = (self.folder / PROPERTIES).read_text(encoding="utf-8")
        with self.asking(), connect(self.target) as connection:
            for statement in for_database(script, self.target.dbname):
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    notes.append(f"{unshown.statement(statement)}: {error.diag.message_primary}")
        return notes

    def _drop(self, connection: Connection) -> None:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(self.target.dbname))
        )

    def _differs(self, faults: list[Difference]) -> ProofFailed:
        lines = [f"- {fault}" for fault in faults[:10]]
        if len(faults) > 10:
            lines.append(f"- and {len(faults) - 10} more")
        return ProofFailed(
            f"{self.target.dbname} was restored, but differs from the snapshot {self.manifest.id}:\n"
            + "\n".join(lines),
            subject=self.target.dbname,
            expected="no difference",
            found=f"{len(faults)} differences",
            remedy="Everything else is as it was. Look at these lines: another version or extension on this server "
            f"can be the cause. Then drop the database {self.target.dbname}.",
        )
