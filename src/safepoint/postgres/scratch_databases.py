"""Scratch databases on a server that others use as well: made under random names, marked, gone whatever happens.

Before anything is made there, a record of its name lies in a folder of our own, under a lock that the kernel releases
when we die. Whoever gets the lock of a record removes what bears that name, ends what still works on it, and only then
forgets the record. The name is in all that is made: databases begin with it, logins have it in their comment.

Roles belong to the whole server. One that is there is used as it is. One that is missing is made without a login and
marked; it goes when no database needs it any more. Whoever may need marked roles holds a lock of the server that all
share, and they are dropped under the same lock held alone: so by whoever leaves last.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.target import Target

PREFIX: Final = "safepoint_scratch_"
DATABASE_MARK: Final = "made by Safepoint: a scratch database, which goes by itself"
ROLE_MARK: Final = "made by Safepoint: a role for scratch databases, which goes by itself"
MAINTENANCE: Final = "postgres"
"""The database of a shared server from which others are made and dropped."""

_NAME: Final = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
ROLES_LOCK: Final = 0x5361_6665_526F_6C65
"""Advisory, of the maintenance database: shared by the runs that may need marked roles."""
LEAVING_LOCK: Final = 0x5361_6665_4C65_6176
"""Advisory, of the maintenance database: held by the run that drops roles at its end."""
_GONE_SECONDS: Final = 30.0

# Sessions that make or drop for a run, and what its programs have open in its databases.
_END = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where pid <> pg_backend_pid() and (application_name = %(name)s or starts_with(datname, %(name)s))
"""
_DATABASES = """
    select datname::text, shobj_description(oid, 'pg_database') from pg_database where starts_with(datname, %s)
"""
_LOGINS = """
    select rolname::text from pg_roles r where shobj_description(oid, 'pg_authid') like 'made by Safepoint %%'
      and strpos(shobj_description(oid, 'pg_authid'), %s) > 0
"""
_MARKED_ROLES = """
    select rolname::text from pg_roles where shobj_description(oid, 'pg_authid') = %s and not rolcanlogin order by 1
"""


def base(dbname: str) -> str | None:
    """The name that a run's databases begin with; None for a database of a server that is all our own. Pure."""
    found = _NAME.match(dbname)
    return None if found is None else found[0]


def shared(target: Target) -> bool:
    """Whether a scratch database stands on a server that others use as well. Pure."""
    return base(target.dbname) is not None


def copy_name(target: Target, name: str) -> str:
    """What a copy of a scratch database is called: on a shared server it belongs to the same run. Pure."""
    run = base(target.dbname)
    return name if run is None else f"{run}_{name.removeprefix('safepoint_')}"


def beside(target: Target) -> Target:
    """Another database of the same scratch server, to make and drop from. Pure.

    On a server of our own no snapshot changes template1. On a shared one nobody should have to wait for us there.
    """
    return target.on(MAINTENANCE if shared(target) else "template1")


def mark(connection: Connection, dbname: str) -> None:
    """Say in a comment whose database it is."""
    words = sql.Identifier(dbname), sql.Literal(DATABASE_MARK)
    connection.execute(sql.SQL("comment on database {} is {}").format(*words))


@contextmanager
def scratch_name(login: Target, folder: Path) -> Iterator[str]:
    """A name under which databases may be made on the server; all that has it is gone on leaving.

    What killed runs of the same folder left on this server is removed first.

    Args:
        login: a superuser's, to the maintenance database.
        folder: for the record.

    Raises:
        DatabaseError: the server refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(login, folder)
    name = f"{PREFIX}{secrets.token_hex(8)}"
    record, descriptor = _record(folder, name, login)
    try:
        with connect(login, application_name=name, options=OWN_NAMES) as holding:
            holding.execute("select pg_advisory_lock_shared(%s)", [ROLES_LOCK])
            yield name
    finally:
        try:
            remove(login, name)
            record.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def sweep(login: Target, folder: Path) -> tuple[str, ...]:
    """Remove from the server what killed runs left there, by the records in the folder; gives their names."""
    removed = []
    for path in sorted(folder.glob(f"{PREFIX}*.json")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _server_of(path) == _address(login):
                remove(login, path.stem)
                path.unlink(missing_ok=True)
                removed.append(path.stem)
    return tuple(removed)


def remove(login: Target, name: str) -> None:
    """Remove all that bears a run's name; a database that does not say that it is ours is left alone.

    Raises:
        DatabaseError: the server refuses.
    """
    try:
        with connect(login, application_name="safepoint scratch", options=OWN_NAMES) as connection:
            _end_sessions(connection, name)
            for dbname, comment in connection.execute(_DATABASES, [name]).fetchall():
                # A kill between making and marking leaves none; nobody else has this name.
                if comment in (None, DATABASE_MARK):
                    drop = sql.SQL("drop database if exists {} with (force)")
                    connection.execute(drop.format(sql.Identifier(dbname)))
            for (role,) in connection.execute(_LOGINS, [name]).fetchall():
                connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
            _drop_roles(connection)
    except psycopg.Error as error:
        raise refused(login, "what was made there cannot be removed", error) from error


def make_roles(connection: Connection, wanted: Collection[tuple[str, bool]]) -> tuple[str, ...]:
    """Make roles that are missing, without a login and marked; those that are there are not touched.

    Args:
        wanted: names, and whether it has to be a superuser (others may not own event triggers, say).

    Returns:
        those that were made.
    """
    there = {row[0] for row in connection.execute("select rolname::text from pg_roles")}
    made = []
    for name, powerful in sorted(set(wanted)):
        if name in there:
            continue
        words = sql.Identifier(name), sql.SQL("superuser" if powerful else "")
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute(sql.SQL("create role {} nologin {}").format(*words))
            comment = sql.SQL("comment on role {} is {}")
            connection.execute(comment.format(words[0], sql.Literal(ROLE_MARK)))
            made.append(name)
    return tuple(made)


def refused(login: Target, what: str, error: psycopg.Error) -> DatabaseError:
    """The error for what the shared server does not do."""
    return DatabaseError(
        f"On the scratch server {login.host}:{login.port} {what}: {' '.join(str(error).split())}",
        subject="scratch",
        remedy="Look into that server's log. What was left there is removed by the next proof or rehearsal.",
    )


def _end_sessions(connection: Connection, name: str) -> None:
    """A CREATE DATABASE goes on when its client was killed, and would be seen only afterwards."""
    deadline = time.monotonic() + _GONE_SECONDS
    while connection.execute(_END, {"name": name}).fetchone() != (0,) and time.monotonic() < deadline:
        time.sleep(0.05)


def _drop_roles(connection: Connection) -> None:
    """Where nobody else may need them, drop the marked roles on which nothing depends any more.

    One run after the other: what one finds still in use, because another is about to drop its database, that other one
    drops. It waits for the first, which has looked already.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    while connection.execute("select pg_try_advisory_lock(%s)", [LEAVING_LOCK]).fetchone() != (True,):
        if time.monotonic() > deadline:
            return  # the next run drops them
        time.sleep(0.02)  # asked again rather than waited for: a run that hangs must not hold this one up for ever
    if connection.execute("select pg_try_advisory_lock(%s)", [ROLES_LOCK]).fetchone() == (True,):
        for (role,) in connection.execute(_MARKED_ROLES, [ROLE_MARK]).fetchall():
            with suppress(psycopg.errors.DependentObjectsStillExist, psycopg.errors.UndefinedObject):
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
        connection.execute("select pg_advisory_unlock(%s)", [ROLES_LOCK])
    connection.execute("select pg_advisory_unlock(%s)", [LEAVING_LOCK])


def _record(folder: Path, name: str, login: Target) -> tuple[Path, int]:
    """Written and locked before it has its name: nobody finds it without its lock."""
    path = folder / f"{name}.json"
    partial = folder / f".{name}.partial"
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"server": _address(login), "name": name}).encode())
        os.fsync(descriptor)
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return path, descriptor


def _address(login: Target) -> str:
    return f"{login.host}:{login.port}"


def _server_of(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["server"]) if found["name"] == path.stem else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
