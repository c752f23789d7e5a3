"""A small set of books in PostgreSQL, as the way back's tests need it: an owner's role, users, entries, lines."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.spool import read_changes

SCHEMA = """
create table auth_user (
    id serial primary key, username text not null unique, password text not null, last_login timestamptz);
create table ledger_account (id serial primary key, code text not null);
create table ledger_entry (
    id serial primary key, memo text not null, posted timestamptz not null default now(),
    author_id integer not null references auth_user deferrable initially deferred,
    approver_id integer references auth_user deferrable initially deferred);
create table ledger_line (
    id serial primary key, amount numeric(12, 2) not null,
    entry_id integer not null references ledger_entry deferrable initially deferred,
    account_id integer not null references ledger_account);
create table django_session (session_key varchar(40) primary key, session_data text not null);
create table django_admin_log (id serial primary key, user_id integer not null references auth_user, object_id text);
create table rate (day date, rate float8);
insert into auth_user (username, password) values ('ann', 'pbkdf2$1'), ('bob', 'pbkdf2$2');
insert into ledger_account (code) values ('1000'), ('2000');
insert into ledger_entry (memo, author_id) values ('opening', 1);
insert into ledger_line (amount, entry_id, account_id) values (10, 1, 1), (-10, 1, 2);
"""
_numbers = itertools.count(1)
LAUNCH = "books-2.0"
ENTRY = "insert into ledger_entry (memo, author_id) values (%s, 1)"


@dataclass(frozen=True)
class Books:
    """The database as the conductor connects to it, and as the application does."""

    target: Target
    application: Target

    @property
    def role(self) -> str:
        return self.application.user


@contextmanager
def books(database: Target, *, attributes: str = "") -> Iterator[Books]:
    """Fill a database with the books, owned by a new role of the application's; the role is gone afterwards."""
    role = f"app_{os.getpid()}_{next(_numbers)}"
    with connect(database) as connection:
        connection.execute(f"create role {role} login password 'only-for-tests' {attributes}")
        connection.execute(
            sql.SQL("alter database {} owner to {}").format(sql.Identifier(database.dbname), sql.Identifier(role))
        )
        connection.execute(f"alter schema public owner to {role}")
        connection.execute(f"set role {role}")
        connection.execute(SCHEMA)
    try:
        yield Books(database, database.login(role, "only-for-tests"))
    finally:
        with connect(database.on("postgres")) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s", [role]
            )
            found = connection.execute(
                "select datname from pg_database where pg_get_userbyid(datdba) = %s or datname = %s",
                [role, database.dbname],
            ).fetchall()
            for (name,) in found:
                connection.execute(sql.SQL("alter database {} allow_connections true").format(sql.Identifier(name)))
                with connect(database.on(name)) as inside:
                    inside.execute(f"reassign owned by {role} to current_user")
                    inside.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


class Hammer:
    """An application that connects again and again, and writes whenever it can."""

    def __init__(self, target: Target, options: str = "") -> None:
        self.target, self.options = target, options
        self.wrote = self.connected = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Hammer:
        self._thread.start()
        while not self.connected:
            self._done.wait(0.01)
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join(20)

    def _loop(self) -> None:
        while not self._done.is_set():
            try:
                with psycopg.connect(**self.target.conninfo(), options=self.options, autocommit=True) as connection:
                    self.connected += 1
                    while not self._done.wait(0.002):
                        with suppress(psycopg.errors.ReadOnlySqlTransaction):
                            connection.execute("insert into ledger_entry (memo, author_id) values ('hammered', 1)")
                            self.wrote += 1
            except psycopg.Error:
                self._done.wait(0.002)


def count(target: Target, table: str = "ledger_entry") -> int:
    with connect(target) as connection:
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


def killed_after(seconds: float, code: str, target: Target) -> None:
    """Run Python code with `target` in a process of its own and kill it (SIGKILL) after some seconds."""
    login = (target.host, target.port, target.dbname, target.user, target.password)
    start = f"from safepoint.postgres.target import Target\ntarget = Target(*{login!r})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", start + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # the code prints a line when it begins
        threading.Event().wait(seconds)
    finally:
        process.kill()
        process.wait(10)


def write(site: Books, *memos: str) -> None:
    """Entries of the application's, each in a transaction of its own."""
    with connect(site.application) as connection:
        for memo in memos:
            connection.execute(ENTRY, [memo])


def memos(spool: Path) -> list[object]:
    """The memos of the changes in a spool."""
    return [change.new.get("memo") for change in read_changes(spool)]


def identities(target: Target) -> list[tuple[object, ...]]:
    """The replica identity of each table."""
    with connect(target) as connection:
        return connection.execute(
            "select relname, relreplident::text from pg_class "
            "where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
        ).fetchall()
