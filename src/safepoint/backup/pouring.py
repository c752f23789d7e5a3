"""Pouring a snapshot's archive into an empty database: the whole of it, or the part that somebody asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.backup import unshown
from safepoint.backup.bare import strip
from safepoint.backup.extensions import make_extensions
from safepoint.backup.manifest import Manifest, verify_files
from safepoint.backup.refreshing import fill, list_archive, unfilled, waiting_last, write_lists
from safepoint.backup.refreshing import notes as of_views
from safepoint.backup.restoring import measured, programs_for, remedy_for
from safepoint.backup.selection import Selection, wanted_lines
from safepoint.errors import CommandFailed, DatabaseError
from safepoint.hosts.command import Command
from safepoint.hosts.here import Here
from safepoint.hosts.process import failure
from safepoint.hosts.temporary import HeldFolder
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation
from safepoint.postgres.connections import OWN_NAMES, connect, undisturbed
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, never, silent

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
    work = Pouring(folder.resolve(), manifest, programs, target, target.on(maintenance), None, jobs, report, cancelled)
    work.pour()
    return manifest


@dataclass(frozen=True)
class Pouring:
    """A snapshot, and the database of a server that it goes into. `maintenance` is another database there.

    `selection`: the part of it that is wanted; None: all.
    """

    folder: Path
    manifest: Manifest
    programs: Installation
    target: Target
    maintenance: Target
    selection: Selection | None
    jobs: int
    report: Report
    cancelled: Cancelled

    def pour(self) -> None:
        """The archive alone."""
        if views := self.load_archive():
            raise DatabaseError(
                f"The snapshot {self.manifest.id} could not be restored as {self.target.dbname}: {of_views(views)[0]}.",
                subject=self.target.dbname,
            )

    def load_archive(self) -> dict[str, str]:
        """Load the archive; the materialised views that could not be filled, each with the reason."""
        archive = self.folder / self.manifest.archive
        strip(self.target, self.manifest.fingerprint)
        if self.selection is None:
            make_extensions(self.target, self.folder)
        with HeldFolder("safepoint-restoring-") as name:
            if self.selection is not None:
                self._part(archive, Path(name), self.selection)
                return {}
            lists = write_lists(Path(name), self._listed(Path(name)), self.manifest.fingerprint)
            for one in lists.first:
                self._load(archive, one)
            views: dict[str, str] = {}
            if lists.refreshes is not None:
                views = fill(lists.refreshes, lambda one: self._load(archive, one, ends=False), self._unfilled)
            if lists.last is not None:
                self._load(archive, lists.last)
            return views

    def _unfilled(self, said: str) -> dict[str, str]:
        with self.asking():
            return unfilled(self.target, self.manifest.fingerprint, said)

    def _part(self, archive: Path, folder: Path, selection: Selection) -> None:
        before, after = wanted_lines(self.listing(), self.manifest, selection)
        for number, lines in enumerate((*waiting_last(before, self.manifest.fingerprint), after)):
            path = folder / f"{number}.list"
            path.write_text("\n".join([*lines, ""]), encoding="utf-8")
            if lines:
                self._load(archive, path)
            if number == 1:
                self._drop_unneeded(selection)

    def _drop_unneeded(self, selection: Selection) -> None:
        """Drop what was not asked for from the new database, as far as nothing that was asked for needs it."""
        with self.asking(), connect(self.target) as connection:
            asked = selection.tables | selection.partitioned
            wanted = {row[0] for row in connection.execute(_ANCESTORS, [list(asked)])} | asked
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

    def _load(self, archive: Path, list_file: Path | None = None, *, ends: bool = True) -> str:
        """What `pg_restore` said. Programs of a newer version than the server's are as good: what they made is compared
        in the end.

        Args:
            ends: an error ends it; else what it made has to be looked at.
        """
        with self.asking(), connect(self.maintenance, options=OWN_NAMES) as connection:
            older = connection.info.server_version // 10000 < tools.SETS_TRANSACTION_TIMEOUT <= self.programs.major
            superuser = connection.info.parameter_status("is_superuser") == "on"
            target = undisturbed(connection, self.target)
        command = tools.restore(
            target,
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
                said = unshown.said(" ".join((error.found or error.message).split()))
                raise DatabaseError(
                    f"The snapshot {self.manifest.id} could not be restored as {self.target.dbname}: {said}",
                    subject=self.target.dbname,
                    remedy=remedy_for(said),
                ) from error
        return result.stderr

    @property
    def _pg_restore(self) -> str:
        return self.programs.program("pg_restore")

    def listing(self) -> str:
        """The archive's table of contents, which is in the encoding of its source."""
        with HeldFolder("safepoint-restoring-") as name:
            found = self._listed(Path(name)).read_bytes()
        encoding = self.manifest.fingerprint.encoding
        if encoding in ("UTF8", "SQL_ASCII"):
            return found.decode("utf-8", "replace")
        with self.asking(), connect(self.maintenance, options=OWN_NAMES) as connection:
            row = connection.execute("select convert_from(%s, %s)", [found, encoding]).fetchone()
        return str(row[0]) if row else ""

    def _listed(self, folder: Path) -> Path:
        command = tools.list_archive(self.folder / self.manifest.archive, program=self._pg_restore)
        return list_archive(Here("here", self.folder), command, folder / "all.list", self.cancelled)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """What PostgreSQL refuses is told as a refusal of the restore."""
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
