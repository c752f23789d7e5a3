"""Somebody who may make functions and operators in `public` makes some that fit our words better than PostgreSQL's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import drop_database, fresh_database

from safepoint.launch.doctor.database import database as doctor
from safepoint.postgres.connections import OWN_NAMES, connect
from safepoint.postgres.scratch_databases import remove, sweep
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import at_maintenance

ROLE = f"mallory_{os.getpid()}"
# Each fits better than PostgreSQL's own, whose arguments would have to be cast.
SHADOWS = """
create function public.taken() returns bool language plpgsql as $$ begin
    execute 'alter role {role} superuser'; return true; exception when others then return true; end $$;
create function public.shadow(name, name) returns bool language sql as 'select public.taken()';
create function public.joined(name, name) returns text language sql as 'select public.taken()::text';
create operator public.~~ (leftarg = name, rightarg = name, function = public.shadow);
create operator public.!~~ (leftarg = name, rightarg = name, function = public.shadow);
create operator public.!~ (leftarg = name, rightarg = name, function = public.shadow);
create operator public.|| (leftarg = name, rightarg = name, function = public.joined);
create function public.starts_with(name, text) returns bool language sql as 'select public.taken() and false';
"""
TAKEN = "select rolsuper from pg_roles where rolname = %s"


@pytest.fixture
def mallory(server: Server) -> Iterator[Callable[[Target], Target]]:
    """`mallory(database)` lets an ordinary login make what shadows PostgreSQL's own there."""
    made: list[Target] = []

    def shadows(target: Target) -> Target:
        made.append(target)
        with connect(target, options=OWN_NAMES) as connection:
            connection.execute(f"grant create on schema public to {ROLE}".encode())
        login = target.login(ROLE, "only-for-tests")
        with connect(login) as connection:
            connection.execute(SHADOWS.format(role=ROLE).encode())
        return login

    with connect(server.target, options=OWN_NAMES) as connection:
        connection.execute(f"create role {ROLE} login password 'only-for-tests'".encode())
    try:
        yield shadows
    finally:
        for target in made:
            with connect(target, options=OWN_NAMES) as connection:
                connection.execute(f"drop owned by {ROLE} cascade".encode())
        with connect(server.target, options=OWN_NAMES) as connection:
            connection.execute(f"drop role {ROLE}".encode())


@pytest.fixture
def database(server: Server) -> Iterator[Target]:
    target = fresh_database(server)
    yield target
    drop_database(target)


def taken(server: Server) -> bool:
    with connect(server.target, options=OWN_NAMES) as connection:
        return connection.execute(TAKEN, [ROLE]).fetchone() == (True,)


def test_what_is_made_beside_the_database_by_whoever_may_is_not_run(
    server: Server, database: Target, mallory: Callable[[Target], Target], tmp_path: Path
) -> None:
    """In the maintenance database, up to version 14, everybody may."""
    mallory(server.target)
    remove(server.target, "safepoint_scratch_0000000000000000")
    assert sweep(server.target, tmp_path) == ()
    with at_maintenance(database, server.target.dbname) as connection:
        assert connection.execute("select count(*) > 0 from pg_class where relname || 'x' <> 'x'").fetchone() == (True,)
    assert not taken(server)


def test_the_doctor_is_not_taken_in_and_says_who_may_make_such(
    server: Server,
    database: Target,
    mallory: Callable[[Target], Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mallory(database)
    monkeypatch.setenv(PASSWORD_ENV, str(database.password))
    findings = list(doctor(plan_file(tmp_path, database), datetime.now(UTC)))
    (found,) = (one for one in findings if "CVE-2018-1058" in one.message)
    assert found.verdict == "warning" and ROLE in found.message and "schema public" in found.message
    assert not taken(server)
