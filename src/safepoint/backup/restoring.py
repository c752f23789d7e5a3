"""Bringing a snapshot back to life in a scratch server: roles, database, archive, the database's own settings."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.backup.manifest import Manifest, Source, verify_files
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.snapshot import GLOBALS
from safepoint.backup.structure import SCRATCH_ROLE
from safepoint.backup.traces import take_away
from safepoint.errors import CommandFailed, Interrupted, ProofFailed
from safepoint.hosts.command import Command
from safepoint.hosts.here import Here
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation, for_server
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch import scratch_server
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report, never, silent

# Said by `psql` for the superuser that a new server has already: that is as it must be.
_EXPECTED_ERRORS = ("already exists",)
_NO_SUCH_LOCALE = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.UndefinedFile,
)
_REPORT_SECONDS = 0.5
_FALLBACK_LOCALES = ("C.UTF-8", "C")


@dataclass(frozen=True)
class Restored:
    """A snapshot that lives in a scratch server. `notes` say in what the scratch could not be like the source."""

    manifest: Manifest
    target: Target
    server_version: str
    notes: tuple[str, ...]


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
) -> Iterator[Restored]:
    """A snapshot, checked and restored into a scratch server that is gone on leaving.

    Args:
        folder: the snapshot's folder.
        scratch_parent: the folder that gets the scratch server; it needs room for the whole database.
        extra: a folder with PostgreSQL programs to prefer.
        settings: of the scratch server, in place of its own.
        as_dumped: what Safepoint itself had standing in the source is in the copy, too: to compare the two.

    Raises:
        ProofFailed: a file is not as it was written, or the archive cannot be restored.
        DatabaseError: this machine has no PostgreSQL for it, or the scratch server does not start.
        Interrupted: `cancelled` became true.
    """
    manifest = verify_files(folder, report=report, cancelled=cancelled)
    programs = programs_for(manifest, extra)
    megabytes = manifest.source.database_bytes // 1024**2
    superuser = manifest.source.bootstrap_superuser
    with scratch_server(
        scratch_parent,
        programs.major,
        megabytes_hint=megabytes,
        programs=programs,
        superuser="postgres" if superuser.startswith("pg_") else superuser,
        settings=settings,
    ) as server:
        work = _Restore(folder.resolve(), manifest, programs, server.target, server.folder, jobs, report, cancelled)
        copy = work.run()
        if not as_dumped:
            copy = replace(copy, notes=(*copy.notes, *work.take_away(copy.target)))
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
    superuser: Target
    workspace: Path
    jobs: int
    report: Report
    cancelled: Cancelled

    def run(self) -> Restored:
        """All steps in their order; the database's own settings come last, as they may forbid writing."""
        login = self._login()
        notes = [*self._script(login, GLOBALS), *self._database(login)]
        target = login.on(self.manifest.source.database)
        self._archive(target)
        notes += self._script(login, PROPERTIES)
        if self.programs.major != self.manifest.source.server_version_num // 10000:
            notes.append(
                f"the source is PostgreSQL {self.manifest.source.server_version}, the scratch server "
                f"{self.programs.version}: definitions are compared by name only"
            )
        return Restored(self.manifest, target, self.programs.version, tuple(notes))

    def take_away(self, target: Target) -> tuple[str, ...]:
        """Take what is Safepoint's own out of the copy."""
        try:
            return take_away(target)
        except psycopg.Error as error:
            raise _unrestorable(self.folder, f"what is Safepoint's own does not leave it: {error}") from error

    def _login(self) -> Target:
        """A second superuser: what globals.sql does to the first one (settings, expiry) must not touch us."""
        password = secrets.token_urlsafe(24)
        with connect(self.superuser) as connection:
            verifier = connection.pgconn.encrypt_password(
                password.encode(), SCRATCH_ROLE.encode(), b"scram-sha-256"
            ).decode()
            connection.execute(
                sql.SQL("create role {} superuser login password {}").format(
                    sql.Identifier(SCRATCH_ROLE), sql.Literal(verifier)
                )
            )
        # template1 is not renamed, dropped or changed by any snapshot.
        return self.superuser.on("template1").login(SCRATCH_ROLE, password)

    def _database(self, login: Target) -> list[str]:
        source = self.manifest.source
        notes: list[str] = []
        with connect(login) as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(source.database))
            )
            for words in locales(source):
                try:
                    connection.execute(create_database(source, words, self.manifest.fingerprint.encoding))
                except _NO_SUCH_LOCALE as error:
                    notes.append(f"this machine lacks the locale: {error.diag.message_primary}")
                except psycopg.Error as error:
                    raise _unrestorable(self.folder, f"its database cannot be made: {error}") from error
                else:
                    return notes
        raise _unrestorable(self.folder, f"its database cannot be made: {'; '.join(notes)}")

    def _archive(self, target: Target) -> None:
        command = tools.restore(
            target,
            self.folder / self.manifest.archive,
            jobs=self.jobs,
            program=self.programs.program("pg_restore"),
        )
        total = self.manifest.source.database_bytes
        with measured(target.on("template1"), target.dbname, total, self.report, self.cancelled) as asked:
            self._run(command, "its archive cannot be restored", asked)

    def _script(self, login: Target, name: str) -> list[str]:
        """Run one of the snapshot's SQL files; what failed in it, but for what a new server has already."""
        command = tools.run_sql(login, self.folder / name, program=self.programs.program("psql"))
        lines = self._run(command, f"{name} could not be run").splitlines()
        said = [line.split("ERROR:", 1)[1].strip() for line in lines if "ERROR:" in line]
        return [f"{name}: {line}" for line in said if not any(sign in line for sign in _EXPECTED_ERRORS)]

    def _run(self, command: Command, what: str, cancelled: Cancelled | None = None) -> str:
        try:
            return Here("here", self.workspace).run(command, cancelled=cancelled or self.cancelled).stderr
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
    last = 0.0
    with connect(beside) as connection:

        def asked() -> bool:
            nonlocal last
            if time.monotonic() - last > _REPORT_SECONDS:
                last = time.monotonic()
                with suppress(psycopg.Error):  # pg_restore itself tells what is wrong with the server
                    row = connection.execute("select pg_database_size(%s)", [name]).fetchone()
                    size = row[0] if row else 0
                    report(Progress("restore", min(size, total) if total else size, total, "bytes"))
            return cancelled()

        yield asked
    if total:
        report(Progress("restore", total, total, "bytes"))


def locales(source: Source) -> list[tuple[tuple[str, str], ...]]:
    """The words of CREATE DATABASE for the source's locale, then for those that nearly every machine has. Pure."""
    own: list[tuple[str, str]] = [("lc_collate", source.collate), ("lc_ctype", source.ctype)]
    if source.provider == "i" and source.locale:
        own += [("locale_provider", "icu"), ("icu_locale", source.locale)]
    if source.provider == "b" and source.locale:
        own += [("locale_provider", "builtin"), ("builtin_locale", source.locale)]
    fallbacks = [(("lc_collate", name), ("lc_ctype", name)) for name in _FALLBACK_LOCALES]
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


def remedy_for(said: str) -> str | None:
    """What to do about what `pg_restore` said; None where that is not known. Pure."""
    remedies: tuple[tuple[Callable[[str], bool], str], ...] = (
        (
            lambda text: "extension" in text and ("not available" in text or "could not open" in text),
            "Install the extension for the PostgreSQL that it is restored into, then try again.",
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
    )
    return next((text for fits, text in remedies if fits(said)), None)


def _unrestorable(folder: Path, why: str) -> ProofFailed:
    said = " ".join(why.split())
    return ProofFailed(
        f"The snapshot {folder.name} is not proven: {said}",
        subject=str(folder),
        remedy=remedy_for(said) or "Do not rely on this snapshot; take a new one.",
    )
