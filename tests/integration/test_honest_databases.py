"""Databases that nobody changed and that are proven, however they were made and whoever has a session in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import role, run, snap
from postgres_servers import has_postgres

from safepoint.backup.fingerprint import compare, definitions, take
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# What a session may have of its own; all of it is gone with it, and in no dump.
TEMPORARY = """
    set role sessions_clerk;
    create temp table basket (id int primary key, what text check (what <> ''), grade int);
    comment on table basket is 'mine';
    comment on column basket.what is 'mine';
    comment on constraint basket_what_check on basket is 'mine';
    create statistics pg_temp.on_two (dependencies) on what, grade from basket;
    create function pg_temp.helper(x int) returns int language sql as 'select x';
    comment on function pg_temp.helper(int) is 'mine';
    create type pg_temp.mood as enum ('ok');
    create domain pg_temp.short as varchar(3);
    create type pg_temp.pair as (a int, b text);
    create operator pg_temp.=== (function = pg_temp.helper, rightarg = int);
"""


def test_whoever_only_made_an_extension_is_not_asked_for(home: Target, proven: Callable[[Target], None]) -> None:
    with role(home, "dba", "superuser"):
        run(home, "set role dba; create extension citext; create extension hstore")
        run(home, "create table t as select 'A'::citext as a")
        assert "dba" not in take(home).roles
        proven(home)


def test_who_was_granted_something_of_an_extension_is_needed(home: Target, proven: Callable[[Target], None]) -> None:
    with role(home, "watcher"):
        run(home, "create extension hstore", "grant execute on function hstore_to_json(hstore) to watcher")
        assert "watcher" in take(home).roles
        proven(home)


def test_what_only_a_session_has_is_no_part_of_the_database(home: Target, proven: Callable[[Target], None]) -> None:
    run(home, "create table t as select 1 as a", f"grant temporary on database {home.dbname} to public")
    before, bare = definitions(home), take(home)
    with role(home, "sessions_clerk"), connect(home) as session:
        session.execute(TEMPORARY)
        assert compare(before, definitions(home)) == ()
        assert compare(bare, now := take(home)) == () and now.digest == bare.digest
        former = take(home, version=2)  # which said so: snapshots of that time are compared with it
        for said in (former.ownership, former.structure["function"]):
            assert any("pg_temp" in name for name in said)
        assert "sessions_clerk" in former.roles
        proven(home)


@pytest.mark.parametrize("name", ["shop=eu", "dbname=postgres", "postgresql://x/y", "a=b'c\\\\ d"])
def test_a_database_whose_name_looks_like_a_connection_string_is_proven_and_restored(
    server: Server, new_database: Callable[..., Target], tmp_path: Path, name: str
) -> None:
    home, copy = new_database(server, name), new_database(server, f"{name} again")
    run(home, "create table t as select 1 as a")
    run(copy.on("postgres"), f'drop database "{copy.dbname}"')
    folder = snap(home, server, tmp_path / "snapshots")
    prove(folder, scratch_parent=tmp_path / "scratch")
    assert place(folder, server.target, copy.dbname).rows == 1


# What people do to what each database has from template0.
FROM_THE_TEMPLATE = {
    "public made anew": "drop schema public cascade; create schema public; create table public.t as select 1 as a",
    "public made anew for all": """
        drop schema public cascade; create schema public; grant all on schema public to public;
        comment on schema public is 'mine'
    """,
    "no public": "drop schema public cascade; create schema app; create table app.t as select 1 as a",
    "no PL/pgSQL": "drop extension plpgsql; create table t as select 1 as a",
}


@pytest.mark.parametrize("what", FROM_THE_TEMPLATE, ids=lambda what: what.replace(" ", "-"))
def test_who_made_public_anew_or_dropped_what_each_database_has_is_proven(
    home: Target, proven: Callable[[Target], None], what: str
) -> None:
    run(home, FROM_THE_TEMPLATE[what])
    proven(home)


def test_what_the_source_dropped_of_each_database_s_own_does_not_come_with_a_restore(
    server: Server, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    home = new_database(server)
    run(home, FROM_THE_TEMPLATE["no public"], "drop extension plpgsql")
    folder = snap(home, server, tmp_path / "snapshots")
    copy = new_database(server)
    run(copy.on("postgres"), f"drop database {copy.dbname}")
    assert place(folder, server.target, copy.dbname).rows == 1
    with connect(copy) as connection:
        assert connection.execute("select from pg_namespace where nspname = 'public'").fetchall() == []
        assert connection.execute("select from pg_extension").fetchall() == []


def test_another_comment_on_public_is_told(database: Target) -> None:
    before = take(database)
    run(database, "comment on schema public is 'other'")
    assert [(one.kind, one.name) for one in compare(before, take(database))] == [("comment", "schema public")]


def test_who_has_access_only_as_a_member_of_a_group_comes_along(home: Target, proven: Callable[[Target], None]) -> None:
    with role(home, "shop_rw"), role(home, "shop_app", "login in role shop_rw"), role(home, "nobody_here", "login"):
        run(home, "create role shop_deploy; grant shop_app to shop_deploy; grant pg_monitor to nobody_here")
        run(home, "create table t as select 1 as a", "grant select on t to shop_rw", "grant pg_monitor to shop_rw")
        try:
            found = take(home).roles
            assert {"shop_rw", "shop_app", "shop_deploy"} <= set(found) and "nobody_here" not in found
            assert not {"shop_app", "shop_deploy"} & set(take(home, version=2).roles)
            proven(home)
        finally:
            run(home, "drop role shop_deploy")


@pytest.mark.skipif(not has_postgres(17), reason="PostgreSQL 16 and newer tell what a membership is good for")
def test_who_may_only_grant_a_role_has_no_access_by_it(database: Target) -> None:
    with role(database, "shop_rw"), role(database, "keeper", "createrole"):
        run(database, "create table t as select 1 as a", "grant select on t to shop_rw")
        run(database, "grant shop_rw to keeper with admin true, inherit false, set false")
        assert "keeper" not in take(database).roles
