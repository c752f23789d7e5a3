"""What is rare in an application, or seldom changed of a table: it comes back, and each change of it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

VERSIONS = [major for major in (15, 17, 18) if has_postgres(major)]

MADE = """
    create schema rare; set search_path = rare, public;
    create type made_of as (a int, b text);
    create table t (a text, b text, c int);
    create index on t (a, (c + 1));
    create table typed of made_of;
    create view seen as select a, c from t;
    create materialized view kept as select a from t;
    create unlogged sequence fleeting;
    create function act() returns trigger language plpgsql as $$ begin return new; end $$;
    create table parts (a int, b int) partition by range (a);
    create table part_one partition of parts for values from (1) to (10);
    create trigger acts before insert on parts for each row execute function act();
    create foreign data wrapper far;
    create server there type 'x' version '1' foreign data wrapper far options (api_key 'secret-of-a-server');
    create foreign table elsewhere (a int options (x '1')) server there;
    create type spans as range (subtype = text, collation = "C", multirange_type_name = many_spans);
    create type base; create function base_in(cstring) returns base language internal immutable strict as 'textin';
    create function base_out(base) returns cstring language internal immutable strict as 'textout';
    create type base (input = base_in, output = base_out, like = text);
    create type mere_shell;
    create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0');
    create function same(int, text) returns bool language sql immutable as 'select true';
    create operator === (leftarg = int, rightarg = text, function = same);
    create operator family family using btree;
    create operator class by_family for type int using btree family family as
        operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
    create type felt as enum ('ok');
    create function felt_as(felt) returns int language sql immutable as 'select 1';
    create cast (felt as int) with function felt_as(felt);
    create text search configuration words (copy = english);
    create text search dictionary few (template = simple, stopwords = english);
    create collation plain_c (locale = 'C');
    create conversion odd for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
    create statistics of_two on a, c from t;
    create function hears() returns event_trigger language plpgsql as $$ begin end $$;
    create event trigger hears on ddl_command_end when tag in ('CREATE CAST') execute function hears();
"""
CHANGES = (
    "alter table t alter a set statistics 500",
    "alter table t alter a set storage external",
    "alter table t alter b set compression pglz",
    "alter index t_a_expr_idx alter column 2 set statistics 500",
    "alter table t set (toast.autovacuum_enabled = false)",
    "alter table typed not of",
    "grant usage on type made_of to rare_owner with grant option",
    "alter type made_of owner to rare_owner",
    "alter view seen alter c set default 7",
    "alter materialized view kept alter a set statistics 3",
    "alter sequence fleeting set logged",
    "alter table part_one disable trigger acts",
    "alter foreign table elsewhere alter a options (set x '2')",
    "alter server there options (set api_key 'another')",
    "alter server there version '2'",
    "alter foreign data wrapper far options (add z 'q')",
    "grant usage on foreign server there to rare_owner",
    "grant usage on foreign data wrapper far to rare_owner",
    "drop type spans; create type spans as range (subtype = text, multirange_type_name = many_spans)",
    "alter type base set (storage = external)",
    "drop type mere_shell",
    "create or replace aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0', parallel = safe)",
    "alter function same(int, text) depends on extension plpgsql",
    "alter operator === (int, text) set (restrict = eqsel)",
    "alter operator === (int, text) owner to rare_owner",
    "alter operator family family using btree add function 1 (int4, int8) btint48cmp(int4, int8)",
    "alter operator class by_family using btree owner to rare_owner",
    "alter operator family family using btree owner to rare_owner",
    "create operator family another using hash",
    "drop cast (felt as int); create cast (felt as int) with function felt_as(felt) as implicit",
    "alter text search configuration words alter mapping for asciiword with few, english_stem",
    "alter text search configuration words owner to rare_owner",
    "alter text search dictionary few (accept = false)",
    "create text search template mine (lexize = dsimple_lexize)",
    "drop collation plain_c; create collation plain_c (locale = 'POSIX')",
    "alter conversion odd owner to rare_owner",
    "alter statistics of_two set statistics 99",
    "alter statistics of_two owner to rare_owner",
    "alter table t owner to rare_owner; revoke insert on t from rare_owner",
    "revoke usage on language plpgsql from public",
    "revoke execute on function pg_catalog.pg_sleep(double precision) from public",
    "grant select on pg_catalog.pg_authid to rare_owner",
    "alter default privileges grant select on tables to rare_owner",
    "alter default privileges grant select on tables to rare_owner with grant option",
    "grant rare_group to rare_owner",
    "grant rare_group to rare_owner with admin option",
    "select lo_create(12)",
    "comment on large object 12 is 'x'",
)


@pytest.fixture(params=VERSIONS, ids=[f"pg{one}" for one in VERSIONS])
def home(request: pytest.FixtureRequest, servers: Servers, new_database: Callable[..., Target]) -> Iterator[Target]:
    """An empty database, and the role `rare_owner`; both are gone afterwards."""
    target: Target = new_database(servers(request.param))
    run(target, "create role rare_owner", "create role rare_group")
    yield target
    for role in ("rare_group", "rare_owner"):
        run(target, f"drop owned by {role} cascade", f"drop role {role}")


def test_each_change_of_what_is_rare_is_told_and_all_of_it_comes_back(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, MADE)
    assert prove(snap(home, server, tmp_path / "snapshots", "plain"), scratch_parent=tmp_path / "scratch").notes == ()
    untold, before = [], take(home)
    for change in CHANGES:
        run(home, "set search_path = rare, public; " + change)
        after = take(home)
        untold += [] if compare(before, after) else [change]
        before = after
    assert untold == []
    folder = snap(home, server, tmp_path / "snapshots", "changed")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    assert "secret-of-a-server" not in (folder / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.skipif(not has_postgres(18), reason="PostgreSQL 18 is not installed")
def test_what_kind_of_not_null_a_column_has_is_told_and_comes_back(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    home: Target = new_database(servers(18))
    run(home, "create table t (a int, b int)", "insert into t values (null, 1)")
    before = take(home)
    for change in (
        "alter table t add constraint promised not null a not valid",
        "alter table t add constraint own not null b no inherit",
    ):
        run(home, change)
        after = take(home)
        assert "column" in {one.kind for one in compare(before, after)}
        before = after
    assert prove(snap(home, servers(18), tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").rows == 1
    run(home, "delete from t where a is null", "alter table t validate constraint promised")
    assert "column" in {one.kind for one in compare(before, take(home))}


def test_an_extension_s_own_types_belong_to_whoever_made_it_there(
    database: Target, servers: Servers, tmp_path: Path
) -> None:
    run(database, "create extension tablefunc", "create extension dblink", "create extension hstore")
    folder = snap(database, servers(17), tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()


def test_a_security_label_is_told(database: Target) -> None:
    """Written into the catalogue: those who give such labels come with no package here."""
    run(database, "create table t (a int)")
    before = take(database)
    run(database, "insert into pg_seclabel values ('t'::regclass, 'pg_class'::regclass, 1, 'anon', 'MASKED')")
    labels = [(one.kind, one.name) for one in compare(before, take(database))]
    assert labels == [("security label", "anon on table column public.t.a")]


# PostgreSQL's own dump leaves these out, whoever takes it.
UNDUMPED = {
    "setting of all roles lock_timeout": "alter role all set lock_timeout = '77s'",
    "grants of schema information_schema": "grant usage on schema information_schema to rare_owner",
    "grants of view information_schema.tables": "revoke select on information_schema.tables from public",
    "grants of language sql": "revoke usage on language sql from public",
    "comment on type public.manies": "create type many as range (subtype = int, multirange_type_name = manies); "
    "comment on type manies is 'x'",
    "foreign keys on public.child": "create table parent (a int primary key); "
    "create table child (a int references parent); alter table child disable trigger all",
    "rights of the database's owner": "revoke create on database {db} from postgres",
    "rows of an extension's table public.queue": "create table queue as select 1 as a; "
    "alter extension plpgsql add table queue",
    "index public.queue_a": "create index queue_a on queue (a)",
}


def test_what_no_dump_has_is_told_and_hinders_no_proof(home: Target, servers: Servers, tmp_path: Path) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    copy = home.on(f"{home.dbname}_copy")
    try:
        run(home, *(statement.format(db=home.dbname) for statement in UNDUMPED.values()))
        folder = snap(home, server, tmp_path / "snapshots")
        told, added = prove(folder, scratch_parent=tmp_path / "scratch").notes
        assert [name for name in UNDUMPED if name not in told] == []
        assert "table public.queue of extension plpgsql" in added
        told, again = place(folder, server.target, copy.dbname).notes
        assert "rows of an extension's table public.queue (1)" in told and "lock_timeout" not in told
        assert again == added
    finally:
        run(home, "alter role all reset all", f"drop database if exists {copy.dbname} with (force)")
