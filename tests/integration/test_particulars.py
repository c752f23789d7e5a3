"""What the words of a definition do not say: it comes back, each change of it is told, and what no dump has hinders
nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove, restored
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

MADE = """
    create schema s; create schema other; set search_path = s, public;
    create extension hstore schema s; create extension postgres_fdw schema s; create extension pg_stat_statements;
    create table parts (a int, b int) partition by range (a);
    create table p1 partition of parts for values from (1) to (10);
    create table p2 partition of parts for values from (10) to (20);
    create unique index parts_i on only parts (a, b);
    create unique index p1_i on p1 (a, b); create unique index p2_i on p2 (a, b);
    alter index parts_i attach partition p2_i;
    create collation plain (locale = 'C'); create collation other.plain (locale = 'POSIX');
    create table t (a text collate plain, b int not null, c int);
    create table parent (x int, y int constraint y_up check (y > 0));
    create table child () inherits (parent);
    create table none () inherits (parent);
    create type felt as enum ('ok');
    create type base; create function base_in(cstring) returns base language internal immutable strict as 'textin';
    create function base_out(base) returns cstring language internal immutable strict as 'textout';
    create type base (input = base_in, output = base_out, internallength = 16, element = float4);
    create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0');
    create function f(int) returns int language sql as 'select 1';
    create foreign data wrapper far; create server there foreign data wrapper far;
    create table used (a int); alter table used owner to few_owner;
    grant usage on schema s, public to few_owner;
    select lo_create(77);
"""
CHANGES = (
    "alter index parts_i attach partition p1_i",
    "alter extension hstore set schema other",
    "alter table t alter a type text collate other.plain",
    "alter table child add constraint y_up check (y > 0)",
    "drop table none; create table none (x int) inherits (parent)",
    "drop aggregate total(int); create aggregate total(x int) (sfunc = int4pl, stype = int, initcond = '0')",
    "alter schema public owner to few_owner",
    "alter type base owner to few_owner",
    "grant usage on type base to few_group",
    "revoke execute on function f(int) from postgres",
    "revoke usage on schema other from postgres",
    "revoke usage on type felt from postgres",
    "revoke usage on foreign server there from postgres",
    "grant execute on function f(int) to few_owner with grant option",
    "set role few_owner; grant execute on function f(int) to few_group",
    "grant select on t to few_owner with grant option",
    "set role few_owner; grant select on t to few_group",
    "grant select on large object 77 to few_owner",
    "grant select on large object 77 to few_owner with grant option",
    "revoke update on large object 77 from postgres",
    "grant usage on foreign data wrapper postgres_fdw to few_owner",
    "revoke execute on function s.postgres_fdw_disconnect_all() from public",
    "revoke select on pg_stat_statements from public",
    "grant select (query) on pg_stat_statements to few_owner",
    "grant few_group to few_owner",
    "comment on role few_owner is 'it''s the owner'",
    "grant set on parameter work_mem to few_owner",
    "grant set on parameter work_mem to few_owner with grant option",
    "do $$ begin execute format('alter database %I connection limit 17', current_database()); end $$",
)
SINCE_16 = (
    "grant few_group to few_owner with inherit false",
    "grant few_group to few_owner with set false",
    "alter role few_owner createrole",  # and so it is a member, of a kind, of whom it makes
    "set role few_owner; create role few_made; reset role; grant select on t to few_made",
)
SINCE_18 = (
    "alter table t rename constraint t_b_not_null to named",
    "comment on constraint named on t is 'x'",
    "create domain filled as int constraint first not null",
    "alter domain filled drop not null; alter domain filled add constraint second not null",
)


VERSIONS = [major for major in (15, 17, 18) if has_postgres(major)]


@pytest.fixture(params=VERSIONS, ids=[f"pg{one}" for one in VERSIONS])
def home(request: pytest.FixtureRequest, servers: Servers, new_database: Callable[..., Target]) -> Iterator[Target]:
    """An empty database, and roles; all are gone afterwards."""
    target: Target = new_database(servers(request.param))
    run(target, "create role few_owner", "create role few_group", "create role few_other")
    yield target
    run(target, "revoke all on parameter work_mem from few_owner")
    with connect(target) as connection:
        made = connection.execute("select rolname::text from pg_roles where rolname like 'few\\_%'").fetchall()
    # What somebody granted goes with him, and only then can he go to whom it was granted.
    run(target, *(f"drop owned by {role} cascade" for (role,) in made))
    run(target, *(f"drop owned by {role} cascade; drop role {role}" for (role,) in made))


def test_each_change_of_a_particular_is_told_and_all_of_it_comes_back(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    with connect(home) as connection:
        major = connection.info.server_version // 10000
    run(home, MADE)
    changes = (*CHANGES, *(SINCE_16 if major >= 16 else ()), *(SINCE_18 if major >= 18 else ()))
    untold, before = [], take(home)
    for change in changes:
        run(home, "set search_path = s, public; " + change)
        after = take(home)
        untold += [] if compare(before, after) and before.digest != after.digest else [change]
        before = after
    assert untold == []
    folder = snap(home, servers(major), tmp_path / "snapshots", "changed")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    with restored(folder, scratch_parent=tmp_path / "scratch") as copy:
        assert take(copy.target).digest == read_manifest(folder).fingerprint.digest


# PostgreSQL's own dump leaves these out, whoever takes it; each with what its note begins with.
UNDUMPED = {
    "comment on index s.doubled_i": "comment on index s.doubled_i is 'x'",
    "comment on function s.spans(integer,integer)": "create type spans as range (subtype = int); "
    "comment on function spans(int, int) is 'x'",
    "grants of function s.spans(integer,integer)": "grant execute on function spans(int, int) to few_other",
    'comment on rule "_RETURN" on s.seen': "create view seen as select 1 as a; "
    "comment on rule \"_RETURN\" on seen is 'x'",
    "comment on table constraint up on s.son": "create table dad (a int constraint up check (a > 0)); "
    "create table son () inherits (dad); comment on constraint up on son is 'x'",
    "comment on table constraint up on s.part": "create table whole (a int constraint up check (a > 0)) "
    "partition by list (a); create table part partition of whole for values in (1); "
    "comment on constraint up on part is 'x'",
    "comment on table constraint whole_a_fkey on s.part": "create table keys (a int primary key); "
    "alter table whole add foreign key (a) references keys; comment on constraint whole_a_fkey on part is 'x'",
    "validation of constraint later on s.son": "alter table dad add constraint later check (a < 9) not valid; "
    "alter table son validate constraint later",
    "comment on type s.mood[]": "create type mood as enum ('a'); comment on type _mood is 'x'",
    "comment on type s.dad": "comment on type dad is 'x'",
    "comment on operator s.####(pg_catalog.text,integer)": "set role few_other; create operator ### "
    "(leftarg = int, rightarg = text, function = starts, commutator = operator(s.####)); "
    "comment on operator ####(text, int) is 'x'",
    "": "alter index doubled_e alter column 1 set statistics 77",
    " ": "alter index doubled_e depends on extension plpgsql",
    "  ": "grant usage on type dad to few_group",
}


def test_what_no_dump_has_of_what_comes_along_hinders_no_proof(home: Target, servers: Servers, tmp_path: Path) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, "create schema s", "grant all on schema s to few_other", "create table s.doubled (a int)")
    run(home, "create function s.starts(int, text) returns bool language sql as 'select true'")
    run(home, "insert into s.doubled values (1), (1)", "alter schema s owner to few_owner")
    for index in ("doubled_i on s.doubled (a)", "doubled_e on s.doubled ((a + 1))"):
        with pytest.raises(psycopg.errors.UniqueViolation):
            run(home, f"create unique index concurrently {index}")
    run(home, *(f"reset role; set search_path = s, public; {statement}" for statement in UNDUMPED.values()))
    (told,) = prove(snap(home, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").notes
    assert [name for name in UNDUMPED if name.strip() not in told] == []


def test_a_partition_whose_detachment_was_ended_is_told(home: Target, servers: Servers, tmp_path: Path) -> None:
    """A restore attaches it again, so that its rows are seen through the whole."""
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, "create table whole (a int) partition by list (a)")
    run(home, "create table part partition of whole for values in (1)", "insert into whole values (1)")
    with connect(home, autocommit=False) as reader, connect(home) as other:
        reader.execute("select from whole")
        other.execute("set statement_timeout = 500")
        with pytest.raises(psycopg.errors.QueryCanceled):
            other.execute("alter table whole detach partition part concurrently")
    (told,) = prove(snap(home, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").notes
    assert "detachment of public.part (from public.whole)" in told


@pytest.mark.skipif(not has_postgres(18), reason="PostgreSQL 18 is not installed")
def test_names_of_not_null_that_no_dump_says_are_the_same(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    home: Target = new_database(servers(18))
    run(
        home,
        "create table later (a int not null, b int constraint named not null)",
        "create table earlier (like later including all)",
        "alter table later add c int, add constraint promised not null c not valid",
        "create table child () inherits (later)",
        "create table another (b int constraint own not null) inherits (later)",
        "create table renamed_once (a int not null)",
        "alter table renamed_once rename to renamed",
        "create table keyed (a int primary key)",
        "alter table keyed rename constraint keyed_a_not_null to other",
        "create table whole (a int constraint of_whole not null) partition by list (a)",
        "create table part partition of whole for values in (1)",
        "create table came (a int constraint of_came not null)",
        "alter table whole attach partition came for values in (2)",
        "create table one (a int constraint of_one not null)",
        "create table two (a int constraint of_two not null)",
        "create table both_ () inherits (one, two)",
        "alter table both_ no inherit one",
        f"create table {'long_' * 9} ({'column_' * 4} int not null)",
    )
    folder = snap(home, servers(18), tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()


@pytest.mark.skipif(not has_postgres(18), reason="PostgreSQL 18 is not installed")
def test_one_of_17_comes_back_on_18(home: Target, servers: Servers, tmp_path: Path) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, MADE)
    folder = snap(home, server, tmp_path / "snapshots")
    other = servers(18).target
    try:
        placed = place(folder, other, "particulars_again")
        assert placed.tables == len(read_manifest(folder).fingerprint.tables)
    finally:
        run(other, "drop database if exists particulars_again with (force)")
        if server.target.port != other.port:
            run(other, *(f"drop role if exists {role}" for role in ("few_owner", "few_group", "few_other")))


def test_grants_of_an_extension_that_is_older_than_their_record_are_the_same(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    """What an extension's script grants is recorded since 9.6; what is older came through each upgrade without."""
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, "create extension dblink", "create extension pg_stat_statements")
    run(home, "delete from pg_init_privs where privtype = 'e'")
    assert prove(snap(home, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").notes == ()
    before = take(home)
    run(home, "grant execute on function dblink_connect_u(text) to few_owner")
    assert [one.kind for one in compare(before, take(home)) if one.kind != "role"] == ["owner and grants of"]
