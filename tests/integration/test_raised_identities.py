"""Tables without a key that come while a publication of ours stands: no statement of the application fails by it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from books import Books
from postgres_servers import Servers, has_postgres

from safepoint.backup.restoring import restored
from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import CaptureFacts, Purpose, arm, disarm, drain
from safepoint.wayback.capture.spool import read_changes
from safepoint.wayback.names import capture_name

LAUNCH = "books-2.0"
MAJORS = (15, 17, 18)
LEFT = """
select (select count(*) from pg_event_trigger), (select count(*) from pg_publication),
       (select count(*) from pg_namespace where nspname like 'safepoint%')
"""


@pytest.fixture(params=MAJORS, ids=[f"pg{major}" for major in MAJORS])
def any_server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """Also the oldest one that is had."""
    if not has_postgres(request.param):
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    return servers(request.param)


def identity(target: Target, table: str) -> str:
    """As in pg_class.relreplident."""
    with connect(target) as connection:
        row = connection.execute("select relreplident::text from pg_class where relname = %s", [table]).fetchone()
    return str(row[0]) if row else ""


def left(target: Target) -> object:
    with connect(target) as connection:
        return connection.execute(LEFT).fetchone()


def run(site: Books, *statements: str) -> None:
    """As the application does."""
    with psycopg.connect(**site.application.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def raised(site: Books, facts: CaptureFacts) -> list[str]:
    """What is noted, in order."""
    query = (
        "select obj_description(oid, 'pg_type') from pg_type where typnamespace = %s::regnamespace and typtype = 'd' "
        "order by 1"
    )
    with connect(site.target) as connection:
        return [str(row[0]) for row in connection.execute(query, [facts.publication]).fetchall()]


def changes(spool: Path) -> list[tuple[str, str, dict[str, object]]]:
    """Without what is computed, which the log has from PostgreSQL 18 on."""
    found = [(one.table, one.action, dict(one.old or one.new)) for one in read_changes(spool)]
    return [(table, action, {name: row[name] for name in row if name != "twice"}) for table, action, row in found]


def test_a_table_without_a_key_that_is_made_later_is_written_to_and_captured(site: Books, tmp_path: Path) -> None:
    facts = arm(site.target, LAUNCH)
    assert facts.all_tables
    run(
        site,
        "create table noted (n int, what text)",
        "create table filled as select 1 as n",
        "create table doubled (n int, twice int generated always as (n * 2) stored)",
        "create temp table passing (n int)",
        "create unlogged table quick (n int)",
        "insert into noted values (1, 'a'), (1, 'a'), (2, 'b')",
        "update noted set what = 'c' where n = 2",
        "delete from noted where n = 1",
        "update filled set n = 2",
        "insert into doubled values (1); update doubled set n = 2; delete from doubled",
        "update quick set n = 1; delete from quick; update passing set n = 1",
    )
    drain(site.target, facts, tmp_path / "spool")
    assert changes(tmp_path / "spool") == [
        ("public.filled", "insert", {"n": "1"}),
        *[("public.noted", "insert", {"n": n, "what": what}) for n, what in (("1", "a"), ("1", "a"), ("2", "b"))],
        ("public.noted", "update", {"n": "2", "what": "b"}),
        *[("public.noted", "delete", {"n": "1", "what": "a"})] * 2,
        ("public.filled", "update", {"n": "1"}),
        ("public.doubled", "insert", {"n": "1"}),
        ("public.doubled", "update", {"n": "1"}),
        ("public.doubled", "delete", {"n": "2"}),
    ]
    assert raised(site, facts) == ["d public.doubled", "d public.filled", "d public.noted"]
    with connect(site.target) as connection:  # a publication of the user's own, whose subscribers have no table of ours
        connection.execute("create publication theirs for all tables")
        published = connection.execute("select schemaname from pg_publication_tables where pubname = 'theirs'")
        assert {row[0] for row in published.fetchall()} == {"public"}
        connection.execute("drop publication theirs")
    disarm(site.target, facts)
    assert identity(site.target, "noted") == identity(site.target, "filled") == "d"
    assert left(site.target) == (0, 0, 0)


def test_a_table_that_loses_its_key_is_raised_and_lowered_once_it_has_one(site: Books) -> None:
    facts = arm(site.target, LAUNCH)
    run(
        site,
        "alter table django_session drop constraint django_session_pkey",
        "insert into django_session values ('a', 'x')",
        "update django_session set session_data = 'y'",
        "create table steps (n int)",
        "insert into steps values (1)",
        "alter table steps add primary key (n)",
        "update steps set n = 2",
    )
    assert identity(site.target, "django_session") == "f" and identity(site.target, "steps") == "d"
    assert raised(site, facts) == ["d public.django_session"]
    run(site, "alter table django_session add primary key (session_key)", "delete from django_session")
    assert identity(site.target, "django_session") == "d" and raised(site, facts) == []
    disarm(site.target, facts)
    assert left(site.target) == (0, 0, 0)


def test_the_index_that_named_the_rows_may_be_dropped(site: Books) -> None:
    run(site, "create table tagged (n int not null, word text); create unique index tagged_n on tagged (n)")
    facts = arm(site.target, LAUNCH)
    assert identity(site.target, "tagged") == "i"
    run(site, "insert into tagged values (1, 'a')", "drop index tagged_n", "update tagged set word = 'b'")
    assert identity(site.target, "tagged") == "f"
    disarm(site.target, facts)
    assert identity(site.target, "tagged") == "d" and left(site.target) == (0, 0, 0)


def test_renamed_dropped_and_changed_ones_and_a_ddl_that_is_rolled_back(one_site: Books) -> None:
    facts = arm(one_site.target, LAUNCH)
    with psycopg.connect(**one_site.application.conninfo()) as connection:  # type: ignore[arg-type]
        connection.execute("create table undone (n int)")
        connection.rollback()
    run(
        one_site,
        "create table a (n int)",
        "alter table a rename to b",
        "create table gone (n int)",
        "drop table gone",
        "create table theirs (n int)",
        "insert into theirs values (0)",
        "alter table theirs replica identity nothing",
        "update theirs set n = 1",
        "create table part (n int, k text) partition by list (k)",
        "create table part_x partition of part for values in ('x')",
        "insert into part values (1, 'x')",
        "update part set n = 2",
    )
    # What somebody set themselves while it stands would make their own UPDATE fail: it is raised again.
    assert [identity(one_site.target, name) for name in ("b", "theirs", "part_x")] == ["f", "f", "f"]
    with connect(one_site.target) as connection:
        connection.execute("alter event trigger " + facts.publication + " disable")
        connection.execute("alter table b replica identity nothing")
    disarm(one_site.target, facts)
    assert [identity(one_site.target, name) for name in ("b", "theirs", "part_x")] == ["n", "n", "d"]
    assert left(one_site.target) == (0, 0, 0)


def test_two_captures_at_once_and_one_whose_facts_were_never_recorded(one_site: Books) -> None:
    purposes: tuple[Purpose, ...] = ("capture", "between")
    first, second = (arm(one_site.target, LAUNCH, purpose=purpose) for purpose in purposes)
    assert arm(one_site.target, LAUNCH).all_tables  # again, as after a kill
    run(one_site, "create table noted (n int)", "update noted set n = 1")
    for facts in (first, second):
        disarm(one_site.target, facts)
        disarm(one_site.target, facts)
        run(one_site, "update noted set n = 1")
    assert identity(one_site.target, "noted") == "d" and left(one_site.target) == (0, 0, 0)


def test_where_the_publication_alone_was_dropped_the_rest_goes_too(one_site: Books) -> None:
    facts = arm(one_site.target, LAUNCH)
    run(one_site, "create table noted (n int)")
    with connect(one_site.target) as connection:
        connection.execute(f"drop publication {facts.publication}")
    disarm(one_site.target, facts)
    assert identity(one_site.target, "noted") == "d" and left(one_site.target) == (0, 0, 0)


def test_a_schema_of_that_name_that_is_somebody_elses_stays(one_site: Books) -> None:
    facts = arm(one_site.target, LAUNCH)
    disarm(one_site.target, facts)
    with connect(one_site.target) as connection:
        connection.execute(f"create schema {capture_name(LAUNCH)}; create table {capture_name(LAUNCH)}.own (n int)")
    disarm(one_site.target, facts)
    assert left(one_site.target) == (0, 0, 1)
    with connect(one_site.target) as connection:
        connection.execute(f"drop schema {capture_name(LAUNCH)} cascade")


def test_a_snapshot_that_is_taken_meanwhile_restores_without_a_trace(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    run(one_site, "create table noting (n int)", "alter table noting rename to noted")
    take_snapshot(
        one_site.target,
        Here("here", tmp_path),
        installation=installation(17),
        folder=tmp_path,
        snapshot_id="s",
        launch_id=None,
    )
    with restored(tmp_path / "s", scratch_parent=tmp_path / "scratch") as copy:
        assert identity(copy.target, "noted") == "d" and left(copy.target) == (0, 0, 0)
    disarm(one_site.target, facts)


def test_a_table_whose_making_is_under_way_while_it_is_armed_is_seen(site: Books) -> None:
    with psycopg.connect(**site.application.conninfo()) as slow:  # type: ignore[arg-type]
        slow.execute("create table under_way (n int)")
        with ThreadPoolExecutor(1) as pool:
            arming = pool.submit(arm, site.target, LAUNCH)
            with connect(site.target) as connection:  # once it is published, the slot waits for this transaction
                while connection.execute("select count(*) from pg_publication").fetchone() == (0,):
                    assert not arming.done()
                    time.sleep(0.02)
            slow.commit()
            facts = arming.result(20)
    run(site, "insert into under_way values (1)", "update under_way set n = 2", "delete from under_way")
    disarm(site.target, facts)
    assert identity(site.target, "under_way") == "d" and left(site.target) == (0, 0, 0)


def test_a_key_that_goes_with_what_it_is_made_of_and_one_that_comes_with_a_generated_column(site: Books) -> None:
    run(
        site,
        "create domain code as text; create table coded (c code primary key, n int)",
        "create type pair as (a int, b int); create table paired (p pair primary key, n int)",
        "create schema safepoint_like; create table safepoint_like.own (n int primary key)",
    )
    facts = arm(site.target, LAUNCH)
    run(
        site,
        "drop domain code cascade",
        "update coded set n = 1",
        "drop type pair cascade",
        "update paired set n = 1",
        "alter table safepoint_like.own drop constraint own_pkey",
        "update safepoint_like.own set n = 1",
        "create table late (n int)",
        "alter table late add twice int generated always as (n * 2) stored, add primary key (n)",
        "insert into late values (1)",
        "update late set n = 2",
        "create table passed (n int)",
        "drop table passed",
        "alter table coded rename to decoded",
    )
    assert raised(site, facts) == ["d public.decoded", "d public.paired", "d safepoint_like.own"]
    disarm(site.target, facts)
    run(site, "drop schema safepoint_like cascade")
    assert identity(site.target, "late") == "d" and left(site.target) == (0, 0, 0)
