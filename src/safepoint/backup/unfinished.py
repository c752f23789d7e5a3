"""Restores that are not whole yet: marked, held while somebody makes them, found again when nobody does any more.

The mark is the database's comment. CREATE DATABASE gives none, so it gives a connection limit by which one is known
whose maker was killed before the comment. The hold is a session's advisory lock: the server releases it when the
process dies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from safepoint.errors import Refused
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.target import Target

UNFINISHED = "made by Safepoint: unfinished restore of {}"
_IS_UNFINISHED = re.compile(re.escape(UNFINISHED).replace(re.escape("{}"), r"\S+"))
# Nobody else has it: a server takes 262,143 connections at most.
_UNMARKED = 731406271
_DATABASES = "select datname, shobj_description(oid, 'pg_database'), datconnlimit from pg_database order by 1"
# Seconds in which a server notices that a process was killed, and lets go of what its session held.
_LETTING_GO = 5.0


def mark(connection: Connection, name: str, text: str) -> None:
    """Say in a database's comment what it is."""
    connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), sql.Literal(text)))


def make(connection: Connection, name: str, create: sql.Composed, text: str) -> None:
    """Make a database, by a CREATE DATABASE that says no connection limit, and say in its comment what it is."""
    connection.execute(create + sql.SQL(" connection limit = {}").format(sql.Literal(_UNMARKED)))
    mark(connection, name, text)
    connection.execute(sql.SQL("alter database {} connection limit -1").format(sql.Identifier(name)))


def is_left(comment: str | None, limit: int, snapshot_id: str | None = None) -> bool:
    """Whether a database is a restore (of that snapshot, where one is named) that is not whole, by its comment and its
    connection limit. Pure.
    """
    if comment is None:
        return limit == _UNMARKED
    if snapshot_id is not None:
        return comment == UNFINISHED.format(snapshot_id)
    return _IS_UNFINISHED.fullmatch(comment) is not None


def hold(connection: Connection, name: str) -> bool:
    """Hold the name of a database that is made, or swept, until the session ends; False where another one does."""
    held = connection.execute("select pg_try_advisory_lock(hashtextextended('safepoint restore ' || %s, 0))", [name])
    return held.fetchone() == (True,)


@contextmanager
def alone(maintenance: Target, name: str) -> Iterator[Connection]:
    """A session that holds the new database's name while that is made; whoever sweeps leaves what is held.

    Raises:
        Refused: another process makes it.
    """
    with connect(maintenance, options=OWN_NAMES) as connection:
        deadline = time.monotonic() + _LETTING_GO
        while not hold(connection, name):
            if time.monotonic() > deadline:
                raise Refused(
                    f"The database {name} is being restored right now, by another process.",
                    subject=name,
                    remedy="Wait for it, or choose another name with --into.",
                )
            time.sleep(0.1)
        yield connection


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
    with connect(target.on(maintenance), options=OWN_NAMES) as connection:
        for name, comment, limit in connection.execute(_DATABASES).fetchall():
            if names.fullmatch(name) and is_left(comment, limit):
                with suppress(psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege):
                    if not hold(connection, name):
                        continue
                    connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
                    gone.append(name)
    return tuple(gone)
