"""Where snapshots are brought to life and thrown away: a server of our own, or databases on one that is named to us.

What a restore needs of either is a room: roles, one fresh database, and that all of it is gone afterwards.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus

from safepoint.backup import unshown
from safepoint.backup.manifest import Manifest
from safepoint.backup.ownership import SCRATCH_ROLE
from safepoint.backup.statements import for_database, granted_among, statements
from safepoint.errors import CommandFailed, DatabaseError, Interrupted, Refused
from safepoint.postgres.binaries import Installation
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.scratch import scratch_server
from safepoint.postgres.scratch_databases import MAINTENANCE, make_roles, mark, refused, scratch_name
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled

# Said for the superuser that a new server has already: that is as it must be.
_EXPECTED_ERRORS = ("already exists",)

# A database of a server of our own, beside the copy, where that has another encoding than the server's templates.
_BESIDE = "safepoint_beside"


@dataclass(frozen=True)
class Place:
    """What every room has. `login` is a superuser's, to another database than the copy, which is to be called
    `database`; `workspace` is a folder; `version` is the server's; `notes` say what this room cannot do."""

    login: Target
    database: str
    workspace: Path
    version: str
    notes: tuple[str, ...] = ()


class Room(Protocol):
    """Where one snapshot is restored; everything in it is removed by whoever gave it.

    The methods raise `CommandFailed`, `psycopg.Error` or `Interrupted`.
    """

    @property
    def place(self) -> Place:
        """What every room has."""
        ...

    @property
    def shared(self) -> bool:
        """Whether others use this server as well: then only the database is ours, and roles are not the source's."""
        ...

    def bring_roles(self, script: Path, manifest: Manifest, cancelled: Cancelled) -> list[str]:
        """Make the roles that the copy needs, by the snapshot's `globals.sql`; says what could not be."""
        ...

    def made(self, connection: Connection) -> None:
        """Is told that the database has been made."""
        ...

    def bring_properties(self, script: Path, cancelled: Cancelled) -> list[str]:
        """Give the database its own settings and grants, by the snapshot's `database.sql`; says what could not be."""
        ...


class Scratch(Protocol):
    """A place for throw-away copies."""

    def room(
        self,
        parent: Path,
        manifest: Manifest,
        programs: Installation,
        *,
        settings: Mapping[str, str] | None = None,
        roles: Collection[str] = (),
    ) -> AbstractContextManager[Room]:
        """Room for one snapshot, gone on leaving; what a killed run left in the same place is removed first.

        Args:
            parent: the folder of our own for what has to stand on this machine.
            programs: whose `pg_restore` it will be.
            settings: of the server, in place of its own; a shared one stays as it is, and says so.
            roles: that somebody needs besides the snapshot.

        Raises:
            DatabaseError: the server does not start, or is not reached.
            Refused: the server must not, or cannot, be used for this.
        """
        ...


@dataclass(frozen=True)
class OwnServers:
    """A server for each copy, started for it on this machine, as the source's in all that can be.

    `port`: where that has to be known before it stands (it gets another one if that is taken meanwhile).
    """

    port: int | None = None

    @contextmanager
    def room(
        self,
        parent: Path,
        manifest: Manifest,
        programs: Installation,
        *,
        settings: Mapping[str, str] | None = None,
        roles: Collection[str] = (),
    ) -> Iterator[Room]:
        """See `Scratch.room`. All the source's roles are there."""
        del roles
        superuser = manifest.source.bootstrap_superuser
        with scratch_server(
            parent,
            programs.major,
            megabytes_hint=manifest.source.database_bytes // 1024**2,
            programs=programs,
            superuser="postgres" if superuser.startswith("pg_") else superuser,
            settings=settings,
            port=self.port,
        ) as server:
            # template1 is not renamed, dropped or changed by any snapshot.
            login = _second_superuser(server.target).on("template1")
            if (encoding := manifest.fingerprint.encoding) not in ("UTF8", "SQL_ASCII"):
                login = login.on(_of_encoding(login, encoding))
            yield _Own(Place(login, manifest.source.database, server.folder, programs.version))


OWN = OwnServers()


@dataclass(frozen=True)
class _Own:
    place: Place
    shared: bool = False

    def bring_roles(self, script: Path, manifest: Manifest, cancelled: Cancelled) -> list[str]:
        del manifest
        return self._run(script, cancelled)

    def made(self, connection: Connection) -> None:
        del connection

    def bring_properties(self, script: Path, cancelled: Cancelled) -> list[str]:
        return self._run(script, cancelled)

    def _run(self, script: Path, cancelled: Cancelled) -> list[str]:
        """Run one of the snapshot's SQL files; what failed in it, but for what a new server has already.

        Not by `psql`, which runs programs on this machine where a script says so: it comes from a store. What the
        script says of its encoding holds for the server, which gets its bytes as they are.
        """
        said = []
        with connect(self.place.login) as connection:
            for statement in statements(script.read_text(encoding="utf-8", errors="surrogateescape")):
                if cancelled():
                    raise Interrupted("The restore was ended by an order.", subject=str(script))
                answer = connection.pgconn.exec_(statement.encode("utf-8", errors="surrogateescape"))
                if connection.pgconn.status != ConnStatus.OK:
                    raise CommandFailed(
                        f"{script.name} could not be run.",
                        subject=str(script),
                        found=connection.pgconn.get_error_message(),
                    )
                if answer.status == ExecStatus.FATAL_ERROR:
                    told = answer.error_field(DiagnosticField.MESSAGE_PRIMARY) or answer.error_message
                    said.append(told.decode(errors="replace").strip())
        return [f"{script.name}: {line}" for line in said if not any(sign in line for sign in _EXPECTED_ERRORS)]


def _of_encoding(login: Target, encoding: str) -> str:
    """A database of that encoding, by its name: roles are known by the bytes of whoever made them."""
    statement = sql.SQL("create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'")
    with connect(login) as connection:
        connection.execute(statement.format(sql.Identifier(_BESIDE), sql.Literal(encoding)))
    return _BESIDE


def _second_superuser(first: Target) -> Target:
    """What globals.sql does to the first one (settings, expiry) must not touch us."""
    password = secrets.token_urlsafe(24)
    with connect(first) as connection:
        verifier = connection.pgconn.encrypt_password(
            password.encode(), SCRATCH_ROLE.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(
            sql.SQL("create role {} superuser login password {}").format(
                sql.Identifier(SCRATCH_ROLE), sql.Literal(verifier)
            )
        )
    return first.login(SCRATCH_ROLE, password)


@dataclass(frozen=True)
class NamedServer:
    """Databases on a server that the plan file names.

    Args:
        login: a superuser's there.
        live: the database that is launched: its server is never used for this.
    """

    login: Target
    live: Target

    @contextmanager
    def room(
        self,
        parent: Path,
        manifest: Manifest,
        programs: Installation,
        *,
        settings: Mapping[str, str] | None = None,
        roles: Collection[str] = (),
    ) -> Iterator[Room]:
        """See `Scratch.room`. Roles that are missing are made, without a login."""
        del manifest, settings
        login = self.login.on(MAINTENANCE)
        version = self.examine(programs.major)
        with scratch_name(login, parent) as name:
            note = (
                f"the scratch server {login.host}:{login.port} is one that others use as well: it is not tuned for "
                "this, and roles' attributes, memberships and settings are its own, so they are not compared"
            )
            yield _Shared(Place(login, name, parent, version, (note,)), frozenset(roles))

    def examine(self, major: int) -> str:
        """The server's version, when it may be used for copies of that major version.

        Raises:
            DatabaseError: it, or the live one, does not answer.
            Refused: it is older, or the login is no superuser, or it is the live server.
        """
        with _connected(self.login.on(MAINTENANCE)) as connection:
            _refuse_older(connection, major)
            if connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() != (True,):
                raise Refused(
                    f"The role {self.login.user!r} is no superuser on the scratch server.",
                    subject="scratch.user",
                    expected="a superuser: a restore gives each object to its owner, and a proof reads everything",
                    remedy="Name one in [scratch] user, or leave [scratch] out: then a server is started here.",
                )
            identity = _identity(connection)
            version = connection.info.parameter_status("server_version") or ""
        with connect(self.live, application_name="safepoint scratch") as live:
            if _identity(live) == identity:
                raise Refused(
                    "The scratch server is the server of the live database (or a copy of its files).",
                    subject=f"scratch: {self.login.host}:{self.login.port}",
                    expected="another server: copies must not take its disk, its memory and its processors",
                    found=f"the same system identifier, {identity}",
                    remedy="Name another server in [scratch], or leave it out: then a server is started here. Nothing "
                    "was made there.",
                )
        return version.split()[0]


@dataclass(frozen=True)
class _Shared:
    place: Place
    also: frozenset[str]
    shared: bool = True

    def bring_roles(self, script: Path, manifest: Manifest, cancelled: Cancelled) -> list[str]:
        """Memberships among the roles that are made here; of others nothing is changed."""
        del cancelled
        source, known = manifest.source, manifest.fingerprint.roles
        powerful = {name for name, text in known.items() if text.split(" ")[0] == "superuser"}
        powerful.add(source.bootstrap_superuser)
        names = {*known, *powerful, source.owner, *self.also}
        notes = []
        with self._asking() as connection:
            made = make_roles(connection, [(name, name in powerful) for name in names])
            for statement in granted_among(script.read_text(encoding="utf-8", errors="replace"), made):
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    notes.append(f"{statement}: {error.diag.message_primary}")
        return notes

    def made(self, connection: Connection) -> None:
        mark(connection, self.place.database)

    def bring_properties(self, script: Path, cancelled: Cancelled) -> list[str]:
        """From within: the server keeps such texts in the encoding of whoever says them."""
        del cancelled
        notes = []
        with self._asking(self.place.database) as connection:
            for statement in for_database(script.read_text(encoding="utf-8"), self.place.database):
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    notes.append(f"{unshown.statement(statement)}: {error.diag.message_primary}")
        return notes

    @contextmanager
    def _asking(self, dbname: str | None = None) -> Iterator[Connection]:
        login = self.place.login if dbname is None else self.place.login.on(dbname)
        try:
            with connect(login, application_name=self.place.database, options=OWN_NAMES) as connection:
                yield connection
        except psycopg.Error as error:
            raise refused(self.place.login, "the roles or settings of a copy cannot be made", error) from error


@contextmanager
def _connected(login: Target) -> Iterator[Connection]:
    """A session there; what goes wrong names the plan file's keys for it."""
    try:
        connection = connect(login, application_name="safepoint scratch", options=OWN_NAMES)
    except DatabaseError as error:
        remedy = (error.remedy or "").replace("database.", "scratch.").replace("[database]", "[scratch]")
        raise DatabaseError(f"The scratch server: {error.message}", subject="scratch", remedy=remedy) from error
    with connection:
        yield connection


def _refuse_older(connection: Connection, major: int) -> None:
    found = connection.info.server_version // 10000
    if found < major:
        raise Refused(
            "The scratch server is older than the snapshot's source, or than the pg_dump that made it.",
            subject="scratch",
            expected=f"PostgreSQL {major} or newer",
            found=f"PostgreSQL {found}",
            remedy="Name a newer server in [scratch], or leave it out: then a server is started here.",
        )


def _identity(connection: Connection) -> int:
    row = connection.execute("select system_identifier from pg_control_system()").fetchone()
    return int(row[0]) if row else 0
