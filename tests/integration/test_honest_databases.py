"""Databases that nobody changed and that are proven, however they were made and whoever has a session in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.fingerprint import compare, definitions, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

MAJORS = [major for major in (15, 17, 18) if has_postgres(major)]

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


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def home(request: pytest.FixtureRequest, servers: Servers, new_database: Callable[[Server], Target]) -> Target:
    """An empty database on each version."""
    return new_database(servers(request.param))


@pytest.fixture
def proven(servers: Servers, tmp_path: Path) -> Callable[[Target], None]:
    """Takes a snapshot of a database and proves it."""

    def prove_it(target: Target) -> None:
        with connect(target) as connection:
            server = servers(connection.info.server_version // 10000)
        folder = snap(target, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert read_manifest(folder).fingerprint.format == 3

    return prove_it


@contextmanager
def role(target: Target, name: str, attributes: str = "") -> Iterator[None]:
    """A role while the test goes on."""
    run(target, f"create role {name} {attributes}")
    try:
        yield
    finally:
        run(target, f"drop owned by {name} cascade", f"drop role {name}")


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
        proven(home)


# What its maker's session wrote in its own way: with another path, another order of dates, another schema of that name.
DEFINED = """
    create schema shop; create type shop.mood as enum ('ok', 'sad');
    set search_path = shop, public; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard';
    create domain shop.felt as mood default 'ok'::mood;
    create domain shop.day as date default date '31.12.2026';
    create domain shop.span as interval default interval '1-2';
    create function shop.now_here() returns int language sql as 'select 1';
    create domain shop.counted as int default now_here();
    reset search_path;
    create table t (gone int, a int, b text, c int, "Odd name" int);
    alter table t drop column gone;
    create publication some_columns for table t (c, a, "Odd name") where (a > 1);
    create schema other;
    create table other.t (a int, b int);
    create statistics public.twice (dependencies) on a, c from public.t;
    create statistics other.twice (ndistinct) on a, b from other.t;
"""
LISTS = ("''", "'', public", '"$user", public', "'Odd, \"schema\"', 'it''s', pg_catalog", "'a\\b'")


def test_definitions_that_were_written_in_another_session_s_way_are_the_same(
    home: Target, proven: Callable[[Target], None]
) -> None:
    run(home, DEFINED)
    now = take(home)
    assert {"public.twice", "other.twice"} <= set(now.structure["statistics"])
    assert '("Odd name", a, c)' in now.structure["publication"]["some_columns"]
    proven(home)


@pytest.mark.parametrize("path", LISTS)
def test_a_database_whose_search_path_is_empty_or_odd_is_proven(
    servers: Servers, new_database: Callable[[Server], Target], proven: Callable[[Target], None], path: str
) -> None:
    home = new_database(servers(17))
    name = home.dbname
    with role(home, "seeker"):
        run(home, f"alter database {name} set search_path to {path}", f"alter database {name} set work_mem to '9MB'")
        run(home, f"alter role seeker in database {name} set search_path to {path}")
        run(home, f"alter role seeker in database {name} set application_name to 'it''s, so'")
        proven(home)
