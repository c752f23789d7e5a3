"""The login of the migration: it acts as the owner behind the closed fence, for as long as it is wanted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from books import Books, books
from postgres_servers import Servers, drop_database, fresh_database, has_postgres

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import connect
from safepoint.wayback.fence.fence import close, reopen, survey_fence
from safepoint.wayback.fence.login import close_migration_login, drop_migration_login, migration_login
from safepoint.wayback.names import migration_role


@pytest.mark.parametrize("major", [15, 17, 18])
@pytest.mark.parametrize("attributes", ["", "superuser"])
def test_the_migrations_login_acts_as_the_owner_behind_the_closed_fence(
    servers: Servers, major: int, attributes: str
) -> None:
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not on this machine")
    database = fresh_database(servers(major))
    try:
        with books(database, attributes=attributes) as one_site:
            with connect(database) as connection:
                connection.execute(f"alter role {one_site.role} set search_path = 'public', 'pg_temp'")
            prior = survey_fence(database, [one_site.role])
            close(database, prior)
            login = migration_login(database, "launch-1", one_site.role, lock_timeout=3)
            login = migration_login(database, "launch-1", one_site.role, lock_timeout=3)
            assert login.password and login.password not in repr(login)
            with psycopg.connect(**login.conninfo(), autocommit=True) as session:
                session.execute("create table made_by_migration (id int)")
                shown = session.execute(
                    "select current_setting('lock_timeout'), current_setting('search_path')"
                ).fetchone()
                assert shown == ("3s", "public, pg_temp")
                session.execute("set role none; create table mine (id int)" if attributes else "select 1")
            with connect(database) as connection:
                owners = connection.execute("select distinct tableowner from pg_tables where schemaname = 'public'")
                assert {row[0] for row in owners.fetchall()} - {login.user} == {one_site.role}
            assert drop_migration_login(database, "launch-1", one_site.role)
            assert not drop_migration_login(database, "launch-1", one_site.role)
            with pytest.raises(DatabaseError):
                connect(login)
            reopen(database, prior)
    finally:
        drop_database(database)


@pytest.mark.parametrize("major", [15, 17, 18])
def test_no_timeout_of_the_server_or_of_the_owner_cuts_the_migration(servers: Servers, major: int) -> None:
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not on this machine")
    database = fresh_database(servers(major))
    names = ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
    names += ["transaction_timeout"] if major >= 17 else []
    try:
        with books(database) as one_site:
            with connect(database) as connection:
                for name in names:
                    connection.execute(f"alter database {database.dbname} set {name} = '200ms'")
                connection.execute(f"alter role {one_site.role} set statement_timeout = '100ms'")
            login = migration_login(database, "launch-3", one_site.role, lock_timeout=3)
            with psycopg.connect(**login.conninfo(), autocommit=True) as session:  # type: ignore[arg-type]
                session.execute("select pg_sleep(0.3)")
                shown = {name: session.execute("select current_setting(%s)", [name]).fetchone() for name in names}
                assert shown == dict.fromkeys(names, ("0",))
                assert session.execute("show lock_timeout").fetchone() == ("3s",)
            drop_migration_login(database, "launch-3", one_site.role)
    finally:
        drop_database(database)


def test_the_migrations_login_logs_in_whatever_passwords_are_kept_as(one_site: Books) -> None:
    """As before PostgreSQL 14, on a server that takes SCRAM alone by now; what is kept as SCRAM serves md5, too."""
    name = one_site.target.dbname
    with connect(one_site.target.on("postgres")) as connection:
        connection.execute("alter database postgres set password_encryption = 'md5'")
        try:
            login = migration_login(one_site.target, "launch-4", one_site.role)
            with connect(login) as session:
                assert session.execute("select current_user, current_database()").fetchone() == (one_site.role, name)
        finally:
            connection.execute("alter database postgres reset password_encryption")
            drop_migration_login(one_site.target, "launch-4", one_site.role)


def test_a_migration_that_is_left_running_is_shut_out_until_the_login_is_renewed(one_site: Books) -> None:
    assert not close_migration_login(one_site.target, "launch-2")
    login = migration_login(one_site.target, "launch-2", one_site.role)
    try:
        with psycopg.connect(**login.conninfo(), autocommit=True) as running:  # type: ignore[arg-type]
            assert close_migration_login(one_site.target, "launch-2")
            with pytest.raises(psycopg.OperationalError):
                running.execute("select 1")
        with pytest.raises(DatabaseError, match="not permitted to log in"):
            connect(login)
        assert close_migration_login(one_site.target, "launch-2")
        connect(migration_login(one_site.target, "launch-2", one_site.role)).close()
        with pytest.raises(DatabaseError, match="password"):  # whoever has the former password stays outside
            connect(login)
    finally:
        drop_migration_login(one_site.target, "launch-2", one_site.role)


def test_the_migrations_login_ends_by_the_servers_clock(one_site: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=13)

    # Where this machine's clock, or its time zone, is wrong by more than a login lasts, it would have ended at once.
    monkeypatch.setattr("safepoint.wayback.fence.login.datetime", Behind, raising=False)
    try:
        login = migration_login(one_site.target, "launch-5", one_site.role)
        connect(login).close()
        with connect(one_site.target) as connection:
            query = "SELECT rolvaliduntil > now() + interval '1 hour' FROM pg_roles WHERE rolname = %s"
            assert connection.execute(query, [login.user]).fetchone() == (True,)
    finally:
        drop_migration_login(one_site.target, "launch-5", one_site.role)


def test_a_role_of_the_same_name_that_is_not_ours_is_left_alone(one_site: Books) -> None:
    role = migration_role("foreign")
    with connect(one_site.target) as connection:
        connection.execute(f"create role {role}")
        try:
            with pytest.raises(Refused, match="did not make"):
                migration_login(one_site.target, "foreign", one_site.role)
            with pytest.raises(Refused, match="did not make"):
                drop_migration_login(one_site.target, "foreign", one_site.role)
        finally:
            connection.execute(f"drop role {role}")
