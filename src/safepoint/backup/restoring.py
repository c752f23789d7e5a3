"""Bringing a snapshot back to life, to be thrown away: roles, database, archive, the database's own settings."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.backup import unshown
from safepoint.backup.ahead import hashing_ahead
from safepoint.backup.bare import strip
from safepoint.backup.contents import Hashed
from safepoint.backup.dumping import GLOBALS
from safepoint.backup.extensions import make_extensions
from safepoint.backup.manifest import Manifest, Source, verify_files
from safepoint.backup.prints import unseen
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.refreshing import fill, list_archive, unfilled, write_lists
from safepoint.backup.refreshing import notes as of_views
from safepoint.backup.scratch import OWN, Room, Scratch
from safepoint.backup.traces import take_away
from safepoint.errors import CommandFailed, Interrupted, SafepointError, Unrestorable
from safepoint.hosts.here import Here
from safepoint.hosts.temporary import HeldFolder
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation, for_server
from safepoint.postgres.connections import connect, undisturbed
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report, never, silent

_NO_SUCH_LOCALE = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.UndefinedFile,
)
_REPORT_SECONDS = 0.5
_BROKEN_RULE = re.compile(r"violates (?:\S+ ){1,2}constraint|could not create unique index|could not create exclusion")
_NO_COLLATION = re.compile(r'collation "[^"]+" for encoding "[^"]+" does not exist')
_SERVER_GONE = ("closed the connection unexpectedly", "terminating connection", "Connection refused")
_FALLBACK_LOCALES = ("C.UTF-8", "C")
LACKED = "lacks the locale"
"""What notes say of a place that a database like the source's cannot be made in."""
# Said each time: otherwise it is that of template0, which the server's administrator chose.
_LIBC = ("locale_provider", "libc")


@dataclass(frozen=True)
class Restored:
    """A snapshot that lives in a scratch server. `notes` say in what the scratch could not be like the source.

    `shared`: others use that server as well (see `postgres.scratch_databases`). `hashed`: see `ahead`. `unfilled`:
    materialised views whose queries failed there (see `refreshing`).
    """

    manifest: Manifest
    target: Target
    server_version: str
    notes: tuple[str, ...]
    shared: bool = False
    hashed: Hashed = field(default_factory=Hashed)
    unfilled: frozenset[str] = frozenset()


@contextmanager
def restored(
    folder: Path,
    *,
    scratch_parent: Path,
    jobs: int = 2,
    report: Report = silent,
    cancelled: Cancelled = never,
    extra: Path | None = None,
    settings: Mapping[str, str] | None = None,
    as_dumped: bool = False,
    scratch: Scratch = OWN,
    roles: Collection[str] = (),
) -> Iterator[Restored]:
    """A snapshot, checked and restored into a scratch place; it is gone on leaving.

    Args:
        folder: the snapshot's folder.
        scratch_parent: the folder that gets a scratch server of our own; it needs room for the whole database.
        extra: a folder with PostgreSQL programs to prefer.
        settings: of the scratch server, in place of its own.
        as_dumped: what Safepoint itself had standing in the source is in the copy, too: to compare the two. On a server
            of our own, big tables are hashed already while the restore goes on.
        scratch: where; by default a server of our own.
        roles: that have to be there besides the snapshot's.

    Raises:
        ProofFailed: a file is not as it was written.
        Unrestorable: the files are, but cannot be restored there.
        DatabaseError: this machine has no PostgreSQL for it, or the scratch server does not start or answer.
        Refused: the scratch server that was named must not be used.
        Interrupted: `cancelled` became true.
    """
    manifest = verify_files(folder, report=report, cancelled=cancelled)
    programs = programs_for(manifest, extra)
    with scratch.room(scratch_parent, manifest, programs, settings=settings, roles=roles) as room:
        early = as_dumped and not room.shared
        work = _Restore(folder.resolve(), manifest, programs, room, jobs, report, cancelled, early)
        copy = work.run()
        if not as_dumped:
            taken = work.take_away(copy.target)
            # Whoever works with it from now on is as anybody is there.
            copy = replace(copy, target=replace(copy.target, options=""), notes=(*copy.notes, *taken))
        yield copy


def programs_for(manifest: Manifest, extra: Path | None = None) -> Installation:
    """Whose server and tools restore a snapshot: the source's major version, unless a newer pg_dump dumped it.

    An archive of a newer pg_dump sets what an older server does not know.
    """
    tool = int(manifest.tool_version.split(".")[0])
    return for_server(max(manifest.source.server_version_num // 10000, tool) * 10000, extra)


@dataclass(frozen=True)
class _Restore:
    folder: Path
    manifest: Manifest
    programs: Installation
    room: Room
    jobs: int
    report: Report
    cancelled: Cancelled
    hash_early: bool

    def run(self) -> Restored:
        """All steps in their order; the database's own settings come last, as they may forbid writing."""
        place, room = self.room.place, self.room
        notes = [*place.notes, *unseen(self.manifest.fingerprint)]
        with self._failing(f"{GLOBALS} could not be run"):
            notes += room.bring_roles(self.folder / GLOBALS, self.manifest, self.cancelled)
        notes += self._database()
        with connect(place.login, application_name=place.database) as connection:
            target = undisturbed(connection, place.login).on(place.database)
        strip(target, self.manifest.fingerprint)
        make_extensions(target, self.folder)
        with under_locale(notes):
            hashed, views = self._archive(target)
        notes += of_views(views)
        with self._failing(f"{PROPERTIES} could not be run"):
            notes += room.bring_properties(self.folder / PROPERTIES, self.cancelled)
        if int(place.version.split(".")[0]) != self.manifest.source.server_version_num // 10000:
            notes.append(
                f"the source is PostgreSQL {self.manifest.source.server_version}, the scratch server "
                f"{place.version}: definitions are compared by name only"
            )
        return Restored(self.manifest, target, place.version, tuple(notes), room.shared, hashed, frozenset(views))

    def take_away(self, target: Target) -> tuple[str, ...]:
        """Take what is Safepoint's own out of the copy."""
        try:
            return take_away(target)
        except psycopg.Error as error:
            raise _unrestorable(self.folder, f"what is Safepoint's own does not leave it: {error}") from error

    def _database(self) -> list[str]:
        place = self.room.place
        source = replace(self.manifest.source, database=place.database)
        notes: list[str] = []
        with connect(place.login, application_name=place.database) as connection:
            if not self.room.shared:  # a new server has a database `postgres`, and the source may be called so
                connection.execute(
                    sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(source.database))
                )
            for words in locales(source):
                try:
                    connection.execute(create_database(source, words, self.manifest.fingerprint.encoding))
                    self.room.made(connection)
                except _NO_SUCH_LOCALE as error:
                    notes.append(f"this machine {LACKED}: {error.diag.message_primary}")
                except psycopg.Error as error:
                    raise _unrestorable(self.folder, f"its database cannot be made: {error}") from error
                else:
                    return notes
        raise _unrestorable(self.folder, f"its database cannot be made: {'; '.join(notes)}")

    def _archive(self, target: Target) -> tuple[Hashed, dict[str, str]]:
        """Load it; what was hashed meanwhile, and the materialised views that could not be filled."""
        here = Here("here", self.room.place.workspace)
        archive, program = self.folder / self.manifest.archive, self.programs.program("pg_restore")
        total = self.manifest.source.database_bytes
        with (
            self._failing("its archive cannot be restored"),
            HeldFolder("safepoint-restoring-") as lists,
            measured(self.room.place.login, target.dbname, total, self.report, self.cancelled) as asked,
            hashing_ahead(target, self.manifest.fingerprint, jobs=self.jobs if self.hash_early else 1) as ahead,
        ):
            command = tools.list_archive(archive, program=program)
            listing = list_archive(here, command, Path(lists) / "all.list", asked)
            written = write_lists(Path(lists), listing, self.manifest.fingerprint)
            restore = partial(
                tools.restore, target, archive, jobs=self.jobs, program=program, dumped_with=self.manifest.dumped_with
            )
            for one in written.first:
                here.run(restore(list_file=one), cancelled=asked)
            views: dict[str, str] = {}
            if written.refreshes is not None:
                views = fill(
                    written.refreshes,
                    lambda one: here.run(restore(list_file=one, ends=False), check=False, cancelled=asked).stderr,
                    lambda said: unfilled(target, self.manifest.fingerprint, said),
                )
            if written.last is not None:
                here.run(restore(list_file=written.last), cancelled=asked)
            return ahead.finish(), views

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except CommandFailed as error:
            if self.cancelled():
                raise Interrupted("The restore was ended by an order.", subject=str(self.folder)) from error
            raise _unrestorable(self.folder, f"{what}: {error.found or error.message}") from error


@contextmanager
def measured(beside: Target, name: str, total: int | None, report: Report, cancelled: Cancelled) -> Iterator[Cancelled]:
    """What a running restore asks all the time: whether to stop. It also tells how big the database is by now.

    Args:
        beside: another database of the server, from which the size is asked.
        total: the size of the source in bytes; a restored one is a little smaller, as it holds nothing dead.
    """
    last, pause = 0.0, _REPORT_SECONDS
    with connect(beside) as connection:

        def asked() -> bool:
            nonlocal last, pause
            if (began := time.monotonic()) - last > pause:
                with suppress(psycopg.Error):  # pg_restore itself tells what is wrong with the server
                    row = connection.execute("select pg_database_size(%s)", [name]).fetchone()
                    size = row[0] if row else 0
                    report(Progress("restore", min(size, total) if total else size, total, "bytes"))
                last = time.monotonic()
                pause = max(_REPORT_SECONDS, 20 * (last - began))  # the server looks at each of its files
            return cancelled()

        yield asked
    if total:
        report(Progress("restore", total, total, "bytes"))


def locales(source: Source) -> list[tuple[tuple[str, str], ...]]:
    """The words of CREATE DATABASE for the source's locale, then for those that nearly every machine has. Pure."""
    own: list[tuple[str, str]] = [("lc_collate", source.collate), ("lc_ctype", source.ctype)]
    if source.provider == "i" and source.locale:
        own += [("locale_provider", "icu"), ("icu_locale", source.locale)]
        own += [("icu_rules", source.icu_rules)] if source.icu_rules else []
    elif source.provider == "b" and source.locale:
        own += [("locale_provider", "builtin"), ("builtin_locale", source.locale)]
    else:
        own.append(_LIBC)
    fallbacks = [(("lc_collate", name), ("lc_ctype", name), _LIBC) for name in _FALLBACK_LOCALES]
    return [tuple(own), *fallbacks]


def create_database(source: Source, words: tuple[tuple[str, str], ...], encoding: str) -> sql.Composed:
    """CREATE DATABASE like the source's. Pure."""
    options = [
        sql.SQL("{} = {}").format(
            sql.SQL(name), sql.Identifier(value) if name == "locale_provider" else sql.Literal(value)
        )
        for name, value in (*words, ("encoding", encoding))
    ]
    return sql.SQL("create database {} with template = template0 owner = {} {}").format(
        sql.Identifier(source.database), sql.Identifier(source.owner), sql.SQL(" ").join(options)
    )


@contextmanager
def under_locale(notes: Sequence[str]) -> Iterator[None]:
    """Rows that keep a rule under their own locale may break it under another one, and then nothing is wrong with them.

    Args:
        notes: among them which locale is lacking, where one is.
    """
    try:
        yield
    except SafepointError as error:
        lacking = next((note for note in notes if LACKED in note), None)
        if lacking is not None and _BROKEN_RULE.search(error.message):
            error.remedy = (
                f"This may be as {lacking}. Install it there, or name a server that has it ([scratch], for a proof); "
                "then try again. If the same rows are refused there, too, they break a rule of the source's own."
            )
        raise


def remedy_for(said: str) -> str | None:
    """What to do about what `pg_restore` said; None where that is not known. Pure."""
    remedies: tuple[tuple[Callable[[str], bool], str], ...] = (
        (
            lambda text: "shared_preload_libraries" in text,
            "Let the server load this library at its start (shared_preload_libraries). For a proof name such a server "
            "in [scratch]: those of Safepoint's own do not.",
        ),
        (
            lambda text: "extension" in text and ("not available" in text or "could not open" in text),
            "Install the extension for the PostgreSQL that it is restored into, then try again.",
        ),
        (
            lambda text: "ICU is not supported in this build" in text or _NO_COLLATION.search(text) is not None,
            "The database needs a collation that the PostgreSQL it is restored into has not. One of ICU (NAME-x-icu) "
            "asks for a PostgreSQL that is built with ICU, as a distribution's is: name it in database.tools, or for a "
            "proof, a server in [scratch]. One of the system's library asks for that locale on the machine before its "
            "server is made, or for pg_import_system_collations('pg_catalog') afterwards. Then try again.",
        ),
        (
            lambda text: "does not exist" in text and re.search(r'SQL function "|PL/pgSQL function ', text) is not None,
            "A function that a constraint, an index or a column of a table calls finds what it names by the search "
            "path alone, and a restore has none: ALTER FUNCTION ... SET search_path = ..., then take a new snapshot.",
        ),
        (
            lambda text: "marked IMMUTABLE" in text or "expression is not immutable" in text,
            "An index or column calls a function of an extension that somebody altered (ALTER FUNCTION ... IMMUTABLE), "
            "which is in no dump, so each one fails alike. Let a function of your own, an IMMUTABLE one, call it, and "
            "the index or the column call that; then take a new snapshot.",
        ),
        (
            lambda text: _BROKEN_RULE.search(text) is not None,
            "Rows at the source break a rule of its own, which is not checked again there: they came in while triggers "
            "were off, an index does not fit the system's library any more, a check reads other tables. Mend these "
            "rows, or that rule, at the source and take a new snapshot; until then each one fails alike.",
        ),
        (lambda text: "No space left" in text, "Make room for a whole copy of the database, then try again."),
        (
            lambda text: "unsupported version" in text,
            "Install a PostgreSQL as new as the pg_dump that made the snapshot.",
        ),
        (
            lambda text: "compression" in text or "not built with" in text,
            "Install a PostgreSQL whose pg_restore was built with this compression.",
        ),
        (
            lambda text: "ended by SIGKILL" in text,
            "Something killed the program: did this machine's memory run out (its system log says so)? Then try again.",
        ),
        (
            lambda text: any(sign in text for sign in _SERVER_GONE),
            "The server that it was restored into went away: is there room on its disk, and memory? Then try again.",
        ),
    )
    return next((text for fits, text in remedies if fits(said)), None)


def _unrestorable(folder: Path, why: str) -> Unrestorable:
    said = unshown.said(" ".join(why.split()))
    return Unrestorable(
        f"The snapshot {folder.name} could not be restored: {said}",
        subject=str(folder),
        remedy=remedy_for(said) or "Do not rely on this snapshot; take a new one.",
    )
