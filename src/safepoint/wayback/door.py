"""The twin's door: it lets nobody connect, and is opened for the moment that one of us needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.target import Target

_CLASS: Final = 1935763572
ALONE: Final = "SELECT pg_advisory_lock(%s, hashtext(%s))"
NOT_ALONE: Final = "SELECT pg_advisory_unlock(%s, hashtext(%s))"
ALLOWS: Final = "SELECT datallowconn FROM pg_database WHERE datname = %s"


@contextmanager
def entering(twin: Target, maintenance: str) -> Iterator[Connection]:
    """A connection to a twin that lets nobody connect: it is opened for the moment that this takes."""
    name = sql.Identifier(twin.dbname)
    with (
        connect(
            twin.on(maintenance), application_name="safepoint replay", lock_timeout=5, options=OWN_NAMES
        ) as outside,
        at_the_door(outside, twin.dbname),
    ):
        row = outside.execute(ALLOWS, [twin.dbname]).fetchone()
        if row is None:
            raise DatabaseError(
                f"There is no database {twin.dbname}.", subject=twin.dbname, remedy="Roll back from the snapshot."
            )
        closed = not row[0]
        if closed:
            outside.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        try:
            connection = connect(twin, autocommit=True, application_name="safepoint replay", lock_timeout=5)
        finally:
            if closed:
                outside.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    with connection:
        connection.execute("SET temp_buffers = '64MB'")
        yield connection


@contextmanager
def at_the_door(outside: Connection, twin: str) -> Iterator[None]:
    """One at a time opens a twin and closes it again: it would be closed before another who is about to connect.

    Args:
        outside: a connection beside the twin, with a lock timeout: who stays that long at the door has gone.
    """
    with suppress(psycopg.errors.LockNotAvailable):
        outside.execute(ALONE, [_CLASS, twin])
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # the session has ended, and its lock with it
            outside.execute(NOT_ALONE, [_CLASS, twin])
