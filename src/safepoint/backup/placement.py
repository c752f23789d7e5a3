"""Putting a snapshot onto a server of the user's: a new database beside the others, compared row by row at the end.

Nothing that is there already is changed: the database is new, roles that exist stay as they are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from safepoint.backup.bare import strip
from safepoint.backup.fingerprint import take
from safepoint.backup.manifest import Manifest, verify_files
from safepoint.backup.prints import Difference, compare, gathered, lost, unseen
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.refreshing import list_archive, unfilled, write_lists
from safepoint.backup.refreshing import notes as of_views
from safepoint.backup.restoring import create_database, locales, measured, programs_for, remedy_for
from safepoint.backup.roles import make_missing
from safepoint.backup.scattered import groups
from safepoint.backup.selection import Selection, select, wanted_lines
from safepoint.backup.statements import for_database, own_comment
from safepoint.backup.traces import take_away
from safepoint.errors import CommandFailed, DatabaseError, ProofFailed, Refused, SafepointError
from safepoint.hosts.command import Command
from safepoint.hosts.here import Here
from safepoint.hosts.process import failure
from safepoint.hosts.temporary import HeldFolder
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation
from safepoint.postgres.connections import Connection, connect, undisturbed
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, never, silent

_UNFINISHED = "made by Safepoint: unfinished restore of {}"
_IS_UNFINISHED = re.compile(re.escape(_UNFINISHED).replace(re.escape("{}"), r"\S+"))
_COMMENTED = """
    select d.datname, shobj_description(d.oid, 'pg_database') from pg_database d
    where shobj_description(d.oid, 'pg_database') is not null order by 1
"""
_GONE = "the new database was removed again; nothing else was touched"
_LEFT = (
    "the server did not let the unfinished database {} be removed; the same restore, given again, replaces it. "
    "Nothing else was touched"
)
# Seconds in which a server notices that a process was killed, and lets go of what its session held.
_LETTING_GO = 5.0
_DONE = "made by Safepoint: restored from {} at {}"
_DIFFERS = "made by Safepoint: restored from {}, but NOT equal to it"

# Everything with rows or drawn from them, in no order: what something else needs is refused and tried again.
_RELATIONS = """
    select format('%I.%I', n.nspname, c.relname),
           case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table'
               else 'table' end, n.nspname, c.relname
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
"""


# Dropping a partitioned table drops its partitions without asking: what wanted tables descend from must stay.
_ANCESTORS = """
    with recursive above as (
        select inhparent from pg_inherits where inhrelid = any (%s::regclass[])
        union
        select i.inhparent from above join pg_inherits i on i.inhrelid = above.inhparent
    )
    select format('%%I.%%I', n.nspname, c.relname)
    from above join pg_class c on c.oid = above.inhparent join pg_namespace n on n.oid = c.relnamespace
"""


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
    cancelled: Cancelled = never,
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
        Interrupted: `cancelled` became true; likewise.
    """
    began = time.monotonic()
    manifest = verify_files(folder, report=report, cancelled=cancelled)
    selection = select(manifest, only) if only else None
    with connect(target.on(maintenance)) as connection:
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
        cancelled,
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


def sweep(target: Target, names: re.Pattern[str], *, maintenance: str = "postgres") -> tuple[str, ...]:
    """Drop unfinished restores whose maker was killed, and say which.

    None that somebody makes, or is connected to: a database with a session in it is not dropped without force.

    Args:
        target: a login to the server.
        names: only databases whose whole names are like that.

    Raises:
        DatabaseError: the server does not answer.
    """
    gone = []
    with connect(target.on(maintenance)) as connection:
        for name, comment in connection.execute(_COMMENTED).fetchall():
            if names.fullmatch(name) and _IS_UNFINISHED.fullmatch(comment):
                with suppress(psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege):
                    if not _hold(connection, name):
                        continue
                    connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
                    gone.append(name)
    return tuple(gone)


def pour(
    folder: Path,
    target: Target,
    *,
    maintenance: str = "postgres",
    jobs: int = 2,
    report: Report = silent,
    cancelled: Cancelled = never,
    extra: Path | None = None,
) -> Manifest:
    """Restore a snapshot's archive into an empty database that the caller made, on the server that it came from.

    Nothing is compared, and the database's own settings and grants are left to the caller.

    Raises:
        ProofFailed: a file is damaged; nothing was touched.
        DatabaseError: PostgreSQL refused.
        Interrupted: `cancelled` became true.
    """
    manifest = verify_files(folder, report=report, cancelled=cancelled)
    programs = programs_for(manifest, extra)
    work = _Placement(
        folder.resolve(), manifest, programs, target, target.on(maintenance), None, jobs, report, cancelled
    )
    work.pour()
    return manifest


@dataclass(frozen=True)
class _Placement:
    folder: Path
    manifest: Manifest
    programs: Installation
    target: Target
    maintenance: Target
    selection: Selection | None
    jobs: int
    report: Report
    cancelled: Cancelled

    @property
    def _pg_restore(self) -> str:
        return self.programs.program("pg_restore")

    def _listed(self, folder: Path) -> Path:
        command = tools.list_archive(self.folder / self.manifest.archive, program=self._pg_restore)
        return list_archive(Here("here", self.folder), command, folder / "all.list", self.cancelled)

    def _listing(self) -> str:
        """The archive's table of contents, which is in the encoding of its source."""
        with HeldFolder("safepoint-restoring-") as name:
            found = self._listed(Path(name)).read_bytes()
        encoding = self.manifest.fingerprint.encoding
        if encoding in ("UTF8", "SQL_ASCII"):
            return found.decode("utf-8", "replace")
        with self._asking(), connect(self.maintenance) as connection:
            row = connection.execute("select convert_from(%s, %s)", [found, encoding]).fetchone()
        return str(row[0]) if row else ""

    def run(self) -> tuple[list[str], int, int, list[str]]:
        """Roles, database, archive, the database's settings, and the comparison: roles that were made, rows and tables
        that are equal, notes.

        What was made is removed when it cannot be finished; one that differs stands, and says so.
        """
        with self._alone() as connection:
            with self._asking():
                self._refuse(connection)
                made, notes = make_missing(connection, self.folder, self.manifest, self._listing)
                notes += [*unseen(self.manifest.fingerprint), *self._database(connection)]
            try:
                views = self._archive()
                notes += [*of_views(views), *self._properties()]
                rows, tables, more = self._compare(views)
            except ProofFailed:
                raise
            except BaseException as error:
                gone = self._take_back(made)
                if isinstance(error, DatabaseError):
                    error.found = _GONE if gone else _LEFT.format(self.target.dbname)
                raise
        return made, rows, tables, [*notes, *more]

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A session that holds the new database's name while that is made; whoever sweeps leaves what is held.

        Raises:
            Refused: another process makes it.
        """
        with connect(self.maintenance) as connection:
            deadline = time.monotonic() + _LETTING_GO
            while not _hold(connection, self.target.dbname):
                if time.monotonic() > deadline:
                    raise Refused(
                        f"The database {self.target.dbname} is being restored right now, by another process.",
                        subject=self.target.dbname,
                        remedy="Wait for it, or choose another name with --into.",
                    )
                time.sleep(0.1)
            yield connection

    def _take_back(self, roles: list[str]) -> bool:
        """Remove what was made; whether all of it is gone."""
        try:
            with connect(self.maintenance) as connection:
                self._drop(connection)
                for role in roles:
                    connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
        except (SafepointError, psycopg.Error):
            return False
        return True

    def _compare(self, views: Collection[str]) -> tuple[int, int, list[str]]:
        """Rows and tables that are equal, and what may differ (roles are the server's own)."""
        expected = self.manifest.fingerprint
        found = take(self.target, jobs=self.jobs, report=self.report, cancelled=self.cancelled, version=expected.format)
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
        with self._asking(), connect(self.target) as connection:
            taken = take_away(self.target)
            below = own_comment((self.folder / PROPERTIES).read_text(encoding="utf-8"))
            _comment(
                connection, self.target.dbname, "\n".join(filter(None, [comment.format(self.manifest.id, at), below]))
            )
        if faults:
            raise self._differs(faults)
        notes = [
            f"role {one.name} is another one here than in the snapshot: {one.found}, not {one.expected}"
            for one in differences
        ]
        return (
            sum(expected.tables[name].rows for name in wanted),
            len(wanted),
            [*notes, *taken, *([] if self.selection else lost(expected, found))],
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
            "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", [self.target.dbname]
        ).fetchone()
        if row is None:
            return
        if row[0] == _UNFINISHED.format(self.manifest.id):
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
                connection.execute(create_database(source, words, self.manifest.fingerprint.encoding))
            except (
                psycopg.errors.WrongObjectType,
                psycopg.errors.InvalidParameterValue,
                psycopg.errors.FeatureNotSupported,
                psycopg.errors.UndefinedFile,
            ) as error:
                notes.append(
                    f"this server lacks the locale, so texts are sorted otherwise: {error.diag.message_primary}"
                )
            else:
                _comment(connection, self.target.dbname, _UNFINISHED.format(self.manifest.id))
                return notes
        raise DatabaseError(
            f"The database {self.target.dbname} cannot be made like its source: {'; '.join(notes)}",
            subject=self.target.dbname,
            remedy="Install the locale on the server's machine.",
        )

    def pour(self) -> None:
        """The archive alone."""
        if views := self._archive():
            raise DatabaseError(
                f"The snapshot {self.manifest.id} could not be restored as {self.target.dbname}: {of_views(views)[0]}.",
                subject=self.target.dbname,
            )

    def _archive(self) -> dict[str, str]:
        """Load it; the materialised views that could not be filled, each with the reason."""
        archive = self.folder / self.manifest.archive
        strip(self.target, self.manifest.fingerprint)
        with HeldFolder("safepoint-restoring-") as name:
            if self.selection is not None:
                self._part(archive, Path(name), self.selection)
                return {}
            lines, refreshes = write_lists(Path(name), self._listed(Path(name)))
            for one in lines:
                self._load(archive, one)
            if refreshes is None:
                return {}
            said = self._load(archive, refreshes, ends=False)
        with self._asking(), connect(self.target) as connection:
            return unfilled(connection, self.manifest.fingerprint, said)

    def _part(self, archive: Path, folder: Path, selection: Selection) -> None:
        before, after = wanted_lines(self._listing(), self.manifest, selection)
        for number, lines in enumerate((before, after)):
            path = folder / f"{number}.list"
            path.write_text("\n".join([*lines, ""]), encoding="utf-8")
            if lines:
                self._load(archive, path)
            if number == 0:
                self._drop_unneeded(selection)

    def _drop_unneeded(self, selection: Selection) -> None:
        """Drop what was not asked for from the new database, as far as nothing that was asked for needs it."""
        with self._asking(), connect(self.target) as connection:
            wanted = {row[0] for row in connection.execute(_ANCESTORS, [list(selection.tables)])} | selection.tables
            left = [row for row in connection.execute(_RELATIONS) if row[0] not in wanted]
            before = len(left) + 1
            while left and len(left) < before:
                before, tried, left = len(left), left, []
                for row in tried:
                    statement = sql.SQL("drop {} {}").format(sql.SQL(row[1]), sql.Identifier(row[2], row[3]))
                    try:
                        connection.execute(statement)
                    except psycopg.errors.DependentObjectsStillExist:
                        left.append(row)
                    except psycopg.errors.UndefinedTable:
                        continue  # a partition, which went with its parent

    def _properties(self) -> list[str]:
        """Settings, grants and limits of the database itself; one that is refused is told.

        From within: the server keeps such texts in the encoding of whoever says them.
        """
        notes = []
        script = (self.folder / PROPERTIES).read_text(encoding="utf-8")
        with self._asking(), connect(self.target) as connection:
            for statement in for_database(script, self.target.dbname):
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    notes.append(f"{statement}: {error.diag.message_primary}")
        return notes

    def _load(self, archive: Path, list_file: Path | None = None, *, ends: bool = True) -> str:
        """What `pg_restore` said. Programs of a newer version than the server's are as good: what they made is compared
        in the end.

        Args:
            ends: an error ends it; else what it made has to be looked at.
        """
        with self._asking(), connect(self.maintenance) as connection:
            older = connection.info.server_version // 10000 < tools.SETS_TRANSACTION_TIMEOUT <= self.programs.major
            superuser = connection.info.parameter_status("is_superuser") == "on"
        command = tools.restore(
            self.target,
            archive,
            jobs=self.jobs,
            program=self._pg_restore,
            list_file=list_file,
            ends=ends and not older,
            dumped_with=self.manifest.dumped_with,
            superuser=superuser,
        )
        return self._run(command, (lambda _: True) if not ends else tools.only_unknown_settings if older else None)

    def _run(self, command: Command, harmless: Callable[[str], bool] | None = None) -> str:
        total = self.manifest.source.database_bytes if self.selection is None else None
        with (
            HeldFolder("safepoint-restoring-") as name,
            measured(self.maintenance, self.target.dbname, total, self.report, self.cancelled) as asked,
        ):
            try:
                result = Here("here", Path(name)).run(command, check=False, cancelled=asked)
                if result.code and (harmless is None or not harmless(result.stderr)):
                    raise failure(result, "here")
            except CommandFailed as error:
                said = " ".join((error.found or error.message).split())
                raise DatabaseError(
                    f"The snapshot {self.manifest.id} could not be restored as {self.target.dbname}: {said}",
                    subject=self.target.dbname,
                    remedy=remedy_for(said),
                ) from error
        return result.stderr

    def _drop(self, connection: Connection) -> None:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(self.target.dbname))
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"The role {self.target.user!r} may not restore there: {error.diag.message_primary}",
                subject=self.target.dbname,
                remedy="Use a superuser, or a role that may create databases and roles, as database.user.",
            ) from error
        except psycopg.Error as error:
            raise DatabaseError(
                f"PostgreSQL refused the restore of {self.manifest.id}: {' '.join(str(error).split())}",
                subject=self.target.dbname,
                remedy="Nothing that was there before is changed; look at what it said, then try again.",
            ) from error

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


def _hold(connection: Connection, name: str) -> bool:
    """Hold the name of a database that is made, or swept, until the session ends; False where another one does."""
    held = connection.execute("select pg_try_advisory_lock(hashtextextended('safepoint restore ' || %s, 0))", [name])
    return held.fetchone() == (True,)


def _comment(connection: Connection, name: str, text: str) -> None:
    connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), sql.Literal(text)))
