"""PostgreSQL servers and databases as the tests use them: plain code, which tests and fixtures import alike."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.postgres.binaries import installation, installations
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target

SETTINGS = {
    "wal_level": "logical",
    "max_connections": "100",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_prepared_transactions": "5",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "2GB",
    "autovacuum": "off",
}
FOLDER = "safepoint-tests-"
_numbers = itertools.count(1)

# Ends what holds on to a database: sessions, then its replication slots (an active one cannot be dropped).
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
DROP_SLOTS = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s and not active"


class Servers:
    """The session's servers by major version, each started when first asked for."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._servers: dict[int, Server] = {}

    def __call__(self, major: int) -> Server:
        if major not in self._servers:
            self._servers[major] = Server.create(
                self._parent / f"pg{major}",
                installation(major),
                password="only-for-tests",
                settings=SETTINGS,
                purpose=SCRATCH,
            ).start()
        return self._servers[major]

    def remove(self) -> None:
        for server in self._servers.values():
            server.remove()


def has_postgres(major: int) -> bool:
    """Whether this machine has that PostgreSQL (15 comes from Debian's packages only)."""
    return any(found.major == major for found in installations())


def fresh_database(server: Server, name: str | None = None) -> Target:
    """Make an empty database; the superuser's login to it."""
    name = name or f"test_{os.getpid()}_{next(_numbers)}"
    with connect(server.target) as connection:
        # Copied as files: half of the time that writing it to the log takes.
        connection.execute(sql.SQL("create database {} strategy file_copy").format(sql.Identifier(name)))
    return server.target.on(name)


def drop_database(target: Target) -> None:
    """Drop a database with the sessions and the replication slots that hold on to it."""
    with connect(target.on("postgres")) as connection:
        for _attempt in range(50):
            connection.execute(END_SESSIONS, [target.dbname])
            try:
                connection.execute(DROP_SLOTS, [target.dbname])
                connection.execute(
                    sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(target.dbname))
                )
            except psycopg.errors.ObjectInUse:
                connection.execute("select pg_sleep(0.1)")
            else:
                return
    raise AssertionError(f"{target} could not be dropped: something holds on to it")
