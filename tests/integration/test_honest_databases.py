"""Databases that nobody changed and that are proven, however they were made and whoever has a session in them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.explain import explain
from safepoint.backup.fingerprint import compare, definitions, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.prints import Fingerprint
from safepoint.backup.proof import prove, restored
from safepoint.errors import DatabaseError
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

MAJORS = [major for major in (15, 17, 18) if has_postgres(major)]

TABLE, _, EXPRESSIONS = (
    (Path(__file__).parent / "expressions.sql").read_text(encoding="utf-8").partition("-- conditions\n")
)
CONDITIONS, QUERIES = (part.splitlines() for part in EXPRESSIONS.split("-- queries\n"))

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
    numbers = itertools.count(1)

    def prove_it(target: Target) -> None:
        with connect(target) as connection:
            server = servers(connection.info.server_version // 10000)
        folder = snap(target, server, tmp_path / "snapshots", f"s{next(numbers)}")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert read_manifest(folder).fingerprint.format == 4

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
        former = take(home, version=2)  # which said so: snapshots of that time are compared with it
        for said in (former.ownership, former.structure["function"]):
            assert any("pg_temp" in name for name in said)
        assert "sessions_clerk" in former.roles
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


# As PostgreSQL's manual shows it: https://www.postgresql.org/docs/current/event-trigger-database-login-example.html
AT_LOGIN = {
    "writes a row": "insert into public.logins values (session_user, clock_timestamp())",
    "lets only some in": "if session_user <> 'postgres' then raise exception 'not you'; end if",
}


@pytest.mark.parametrize("major", [17, 18], ids=lambda major: f"pg{major}")
@pytest.mark.parametrize("what", AT_LOGIN, ids=lambda what: what.replace(" ", "-"))
def test_what_a_database_does_at_each_login_is_not_done_to_its_copies(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path, what: str, major: int
) -> None:
    server = servers(major)
    home, copy = new_database(server), new_database(server)
    run(home, "create table logins (who text, at timestamptz)", "create materialized view m as select 1 as a")
    body = f"$$ begin {AT_LOGIN[what]}; end $$"
    run(home, f"create function at_login() returns event_trigger language plpgsql security definer as {body}")
    run(home, "create event trigger at_login on login execute function at_login()")
    folder = snap(home, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    run(copy.on("postgres"), f"drop database {copy.dbname}")
    assert place(folder, server.target, copy.dbname).notes == ()


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


def test_a_materialised_view_whose_query_fails_in_a_copy_hinders_neither_proof_nor_restore(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    """No dump has its rows. A foreign server that is away, or a row that came since, is no fault of a snapshot."""
    run(home, "create table t as select '1' as a", 'create materialized view "Sum %" as select a::int from t')
    run(
        home, 'create materialized view more as select * from "Sum %"', "create materialized view fine as select 1 as a"
    )
    run(home, "create materialized view unfilled as select 1 as a with no data", "insert into t values ('x')")
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    folder = snap(home, server, tmp_path / "snapshots")
    told = prove(folder, scratch_parent=tmp_path / "scratch").notes
    assert [note.split(" is without data")[0] for note in told] == [
        f"the materialised view public.{name}" for name in ('"Sum %"', "more")
    ]
    assert "invalid input syntax" in told[0]
    copy = home.on(f"{home.dbname}_copy")
    try:
        assert place(folder, server.target, copy.dbname).notes == told
        with connect(copy) as connection:
            assert connection.execute("select a from fine").fetchall() == [(1,)]
            assert connection.execute("select count(*) from pg_class where not relispopulated").fetchall() == [(3,)]
        again = take(copy)
    finally:
        run(home, f"drop database {copy.dbname} with (force)")
    was = read_manifest(folder).fingerprint
    assert {one.name for one in compare(was, again)} == {'public."Sum %"', "public.more"}


def of_expressions(target: Target) -> None:
    """Definitions of most kinds that have each of the expressions in them."""
    run(target, TABLE, "create table made (like thing)")
    with connect(target) as connection:
        for n, text in enumerate(CONDITIONS):
            connection.execute(f"alter table thing add constraint c{n} check ({text})".encode())
            connection.execute(f"create policy p{n} on thing using ({text}) with check ({text})".encode())
            connection.execute(f"create view v{n} as select id, ({text}) as told from thing where {text}".encode())
            body = f"begin atomic select count(*) from thing where {text}; end"
            connection.execute(f"create function f{n}() returns bigint language sql {body}".encode())
            with suppress(psycopg.errors.InvalidObjectDefinition):  # it is not immutable
                connection.execute(f"create index i{n} on thing (n, ({text})) where {text}".encode())
                column = f"g{n} boolean generated always as ({text}) stored"
                connection.execute(f"alter table made add {column}".encode())
        for n, text in enumerate(QUERIES):
            connection.execute(f"create view q{n} as {text}".encode())
            connection.execute(f"create materialized view m{n} as {text}".encode())


def texts(found: Fingerprint) -> dict[tuple[str, str], str]:
    return {(kind, name): text for kind, entries in found.structure.items() for name, text in entries.items()}


def test_whatever_an_expression_is_written_as_after_a_restore_it_is_the_same(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    of_expressions(home)
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    folder = snap(home, server, tmp_path / "snapshots")
    before = read_manifest(folder).fingerprint
    with restored(folder, scratch_parent=tmp_path / "scratch") as copy:
        after = take(copy.target)
    assert compare(before, after) == () and after.digest == before.digest
    changed = [key for key, text in texts(after).items() if texts(before)[key] != text]
    assert len(changed) > 50


# What was called equal for a long time, though it says something else.
OTHERWISE = {
    "grouping in a check": (
        "alter table thing add check ((n + big) * small > 0)",
        "alter table thing drop constraint thing_check, add check (n + big * small > 0)",
    ),
    "grouping in a body": (
        "create function f(a int, b int, c int) returns int language sql as 'select (a + b) * c'",
        "create or replace function f(a int, b int, c int) returns int language sql as 'select a + b * c'",
    ),
    "a cast in a body": (
        "create function f(a int) returns text language sql as $$ select a::int::text $$",
        "create or replace function f(a int) returns text language sql as $$ select a::text $$",
    ),
    "a cast in a view": (
        "create view told as select n::bigint as x from thing",
        "drop view told; create view told as select n::int as x from thing",
    ),
    "what a policy negates": (
        "create policy few on thing using (not (flag or n = 1))",
        "alter policy few on thing using (not flag or n = 1)",
    ),
    "the blanks of a comment": ("comment on table thing is 'a  (b)'", "comment on table thing is 'a b'"),
    "the length of a cast": (
        "create index told on thing ((amount::numeric(9, 1)))",
        "drop index told; create index told on thing ((amount::numeric(9, 2)))",
    ),
}


@pytest.mark.parametrize("what", OTHERWISE, ids=lambda what: what.replace(" ", "-"))
def test_what_means_something_else_is_told(database: Target, what: str) -> None:
    first, then = OTHERWISE[what]
    run(database, TABLE, first)
    before = take(database)
    run(database, then)
    after = take(database)
    assert len(compare(before, after)) == 1 and before.digest != after.digest


def test_a_virtual_column_that_cannot_be_computed_for_a_row_hinders_no_backup(
    servers: Servers, new_database: Callable[[Server], Target], proven: Callable[[Target], None]
) -> None:
    """pg_dump does not read it either. What it would be says its definition."""
    home = new_database(servers(18))
    columns = "a int, b int, ratio int generated always as (a / b), twice int generated always as (a * 2)"
    run(home, f"create table t ({columns})")
    run(home, "insert into t values (4, 2), (1, 0)")
    before = take(home)
    proven(home)
    run(home, "create table u (c int generated always as (1))", "insert into u default values")
    proven(home)
    run(home, "drop table u", "update t set b = 1 where a = 4")
    after = take(home)
    assert [(one.kind, one.name) for one in compare(before, after)] == [("table", "public.t")]
    run(home, "alter table t alter twice set expression as (a * 3)")
    assert [(one.kind, one.name) for one in compare(after, take(home))] == [("relation", "public.t")]


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


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 of Debian's packages is not installed")
def test_a_library_that_each_session_loads_need_not_be_where_it_is_proven_or_restored(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    """As `safeupdate` or `anon` are set up, by ALTER DATABASE ... SET."""
    server = servers(15)
    home, copy = new_database(server), new_database(server)
    library = Path(server.folder) / "loaded.so"
    shutil.copy("/usr/lib/postgresql/15/lib/auto_explain.so", library)
    run(home, "create table t as select 1 as a")
    run(home, f"alter database {home.dbname} set session_preload_libraries = '{library.with_suffix('')}'")
    try:
        folder = snap(home, server, tmp_path / "snapshots")
        run(copy.on("postgres"), f"drop database {copy.dbname}")
        library.unlink()
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1
        assert place(folder, server.target, copy.dbname).rows == 1
    finally:
        run(home.on("postgres"), f"alter database {home.dbname} reset all")


# What a database's own settings do to each session in it.
BY_SETTINGS = {
    "another role": ("create role settings_app", "alter database {db} set role = 'settings_app'"),
    "another encoding": (
        "insert into t values ('Ω€Ж')",
        "comment on table t is 'Ω'",
        "alter database {db} set client_encoding = 'LATIN1'",
    ),
    "no time": tuple(
        f"alter database {{db}} set {timeout} = '1ms'"
        for timeout in (
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
        )
    ),
}


@pytest.mark.parametrize("what", BY_SETTINGS, ids=lambda what: what.replace(" ", "-"))
def test_what_a_database_sets_for_its_sessions_hinders_neither_proof_nor_restore(
    home: Target, servers: Servers, tmp_path: Path, what: str
) -> None:
    copy = home.on(f"{home.dbname}_copy")
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, "create table t as select 'x'::text as a", *(line.format(db=home.dbname) for line in BY_SETTINGS[what]))
    if what == "no time" and server.installation.major >= 17:
        run(home, f"alter database {home.dbname} set transaction_timeout = '1ms'")
    try:
        folder = snap(home, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert place(folder, server.target, copy.dbname).notes == ()
    finally:
        run(server.target, f"drop database if exists {copy.dbname} with (force)", f"drop database {home.dbname}")
        run(server.target, "drop role if exists settings_app")


# The hash of an enum is that of its object id, so a restore puts the rows into other partitions.
BY_ENUM = """
    create type mood as enum ('sad', 'ok', 'happy', 'it''s');
    create domain felt as mood not null;
    create schema "By hash";
    create table "By hash".t (id int, m felt, primary key (id, m)) partition by hash (m);
    create table "By hash".t0 partition of "By hash".t for values with (modulus 2, remainder 0);
    create table t1 partition of "By hash".t for values with (modulus 2, remainder 1) partition by list (m);
    create table t1_rest partition of t1 default;
    create table above (m mood, x int) partition by range (x);
    create table below partition of above default partition by hash (m, x);
    create table b0 partition of below for values with (modulus 2, remainder 0);
    create table b1 partition of below for values with (modulus 2, remainder 1);
    insert into "By hash".t select n, (enum_range(null::mood))[1 + n % 4] from generate_series(1, 400) n;
    insert into above select m, id from "By hash".t;
"""


def test_rows_that_a_restore_puts_into_other_partitions_are_compared_as_one(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
        connection.execute(BY_ENUM)  # type: ignore[call-overload]
    folder = snap(home, server, tmp_path / "snapshots")
    copy = home.on(f"{home.dbname}_copy")
    try:
        assert place(folder, server.target, copy.dbname).rows == 800
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 800
        run(copy, 'update "By hash".t set id = 1000 where id = 7', "update above set x = 0 where x = 7")
        was, now = read_manifest(folder).fingerprint, take(copy)
        differing = {one.name for one in compare(was, now)}
        assert differing == {'"By hash".t', "public.below"}
        told = {one.table: one for one in explain(home, copy, differing)}
        assert {name: (one.changed, one.missing, one.added) for name, one in told.items()} == {
            '"By hash".t': (0, 1, 1),
            "public.below": (1, 0, 0),
        }
        run(copy.on("postgres"), f"drop database {copy.dbname} with (force)")
        assert place(folder, server.target, copy.dbname, only=("above",)).rows == 400
    finally:
        run(home, f"drop database if exists {copy.dbname} with (force)")


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_proven_and_restored(servers: Servers, tmp_path: Path, encoding: str) -> None:
    """Its server may have no other: names, comments and settings of roles are known by their bytes."""
    server = servers(17)
    name = f"of_{encoding.lower()}"
    home, copy = server.target.on(name), server.target.on(f"{name}_copy")
    made_as = f"template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
    word = {"LATIN1": "für", "EUC_JP": "日本", "SQL_ASCII": "für"}[encoding]
    run(server.target, f"create database {name} {made_as}", "create role scribe")
    try:
        run(home, f"create table \"{word}\" as select '{word}'::text as a", f"comment on role scribe is '{word}'")
        run(home, f'alter table "{word}" owner to scribe', f"alter database {name} set app.word = '{word}'")
        run(home, f'create table other as select 1 as "{word}"')
        if encoding == "SQL_ASCII":
            run(home, r"insert into other (für) values (2)", r"create table raw as select E'\xff\xfe'::text as a")
        folder = snap(home, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert place(folder, server.target, copy.dbname).notes == ()
        run(server.target, f"drop database {copy.dbname}")
        assert place(folder, server.target, copy.dbname, only=(word,)).rows == 1
    finally:
        for target in (copy, home):
            run(server.target, f"drop database if exists {target.dbname}")
        run(server.target, "drop role scribe")


def test_a_definition_that_is_no_text_is_told_as_that(servers: Servers, tmp_path: Path) -> None:
    server = servers(17)
    home = server.target.on("of_any_bytes")
    made_as = "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    run(server.target, f"create database of_any_bytes {made_as}")
    try:
        run(home, "create table t as select 1 as a", r"comment on table t is E'\xff'")
        with pytest.raises(DatabaseError) as caught:
            snap(home, server, tmp_path / "snapshots")
        assert "bytes that are no UTF-8" in str(caught.value.remedy)
    finally:
        run(server.target, "drop database of_any_bytes")


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 of Debian's packages is not installed")
def test_a_role_whose_name_is_in_another_encoding_is_made_for_the_proof(servers: Servers, tmp_path: Path) -> None:
    server = servers(15)
    home = server.target.on("of_zoe")
    run(server.target, "create database of_zoe template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'")
    try:
        run(home, 'create role "Zoë"', "create table t as select 'é'::text as a", 'alter table t owner to "Zoë"')
        folder = snap(home, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    finally:
        run(home, "drop table t", 'drop role "Zoë"')
        run(server.target, "drop database of_zoe")


NOT_VALID = """
    create domain counted as int;
    create table t (id int, x counted, y int);
    insert into t select n, -n, -n from generate_series(1, 5000) n;
    alter domain counted add constraint positive check (value > 0) not valid;
    alter table t add constraint also check (y > 0) not valid;
    comment on constraint also on t is 'of the table';
"""


def test_constraints_that_rows_of_before_do_not_keep_hinder_no_restore(
    home: Target, servers: Servers, tmp_path: Path
) -> None:
    """Of a domain `pg_restore` makes them beside the rows."""
    run(home, NOT_VALID)
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    folder, copy = snap(home, server, tmp_path / "snapshots"), home.on(f"{home.dbname}_copy")
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 5000
    try:
        assert place(folder, server.target, copy.dbname).rows == 5000
        run(home, f"drop database {copy.dbname}")
        assert place(folder, server.target, copy.dbname, only=("t",)).rows == 5000
    finally:
        run(home, f"drop database if exists {copy.dbname}")
