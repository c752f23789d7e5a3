"""Capture by triggers: what it notes is what the log would have said, and the application never notices."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from postgres_servers import drop_database, fresh_database
from psycopg import sql
from replay_ground import LAUNCH, SHOP, Ground, ask, ground
from test_replay_equals import BEFORE, MIGRATION, OPERATIONS, SAME, WRITES, check, write

from safepoint.errors import CaptureLost, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.affected import SCHEMA as AFFECTED
from safepoint.wayback.capture import arm, choose, disarm, drain, lag
from safepoint.wayback.catalogue import read_catalogue
from safepoint.wayback.fates import Fates
from safepoint.wayback.replay import replay
from safepoint.wayback.spool import durable_position, read_changes, read_header

NOTHING = """
select count(*) from pg_trigger where tgname like '!safepoint%' union all
select count(*) from pg_namespace where nspname = 'safepoint_capture' union all
select count(*) from pg_event_trigger
"""


def changes(made: Ground) -> list[tuple[str, str, dict[str, object]]]:
    return [(one.table, one.action, dict(one.new or one.old)) for one in read_changes(made.spool)]


@pytest.mark.parametrize("major", [18])
def test_both_captures_of_the_same_writes_lead_to_the_same_twin(
    servers: object, major: int, tmp_path_factory: object
) -> None:
    server: Server = servers(major)  # type: ignore[operator]

    @settings(
        max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
    )
    @given(WRITES, st.integers(0, 25))
    def carried(writes: list[tuple[int, int, int, bool]], cut: int) -> None:
        folder: Path = tmp_path_factory.mktemp("triggers")  # type: ignore[attr-defined]
        database = fresh_database(server)
        other = database.on(f"{database.dbname}_other")
        try:
            with ground(database, folder, BEFORE, MIGRATION, OPERATIONS, how="triggers") as made:
                with connect(database.on("postgres")) as connection:
                    words = {"new": sql.Identifier(other.dbname), "old": sql.Identifier(made.twin.dbname)}
                    connection.execute(sql.SQL("create database {new} template {old}").format(**words))
                logical = arm(database, "by-the-log", "logical")
                write(made, writes[:cut])
                made.carry()
                write(made, writes[cut:])
                outcome = made.carry()
                check(made)
                assert outcome.put_aside == 0, outcome.aside
                drain(database, logical, folder / "log")
                replay(other, database, folder / "log", made.mapping(), launch_id="by-the-log", out=folder / "log-out")
                for table, (_, found) in SAME.items():
                    query = f"select x::text from ({found}) x order by 1"
                    assert made.old(query) == ask(other, query), table
                disarm(database, logical)
            assert ask(database, NOTHING) == [(0,), (0,), (0,)]
        finally:
            drop_database(other)
            drop_database(database)

    carried()


ODD = """
create table keyless (at timestamptz, size float8, raw bytea, took interval, price money);
create table made (id int primary key, n int, twice int generated always as (n * 2) stored, "Odd "" name" text);
create table part (id int, kind text, primary key (id, kind)) partition by list (kind);
create table part_a partition of part for values in ('a');
create unlogged table fast (id int primary key);
create table nothing ();
"""


def test_the_application_writes_as_before_whatever_its_rights_settings_and_tables_are(
    any_database: Target, tmp_path: Path
) -> None:
    target = any_database
    role = f"{target.dbname}_app"
    with connect(target) as connection:
        connection.execute(f"create role {role} login password 'only-for-tests'")
    application = target.login(role, "only-for-tests")
    try:
        with ground(target, tmp_path, ODD, "select 1", how="triggers") as made:
            assert made.facts.mode == "triggers" and made.facts.uncovered == ()
            with connect(target) as connection:
                connection.execute(f"grant all on all tables in schema public to {role}")
                connection.execute("create table part_b partition of part for values in ('b')")
                connection.execute("create table later (id int)")
                connection.execute(f"grant all on part_b, later to {role}")
                refused = "select has_schema_privilege(%s, 'safepoint_capture', 'usage')"
                assert connection.execute(refused, [role]).fetchone() == (False,)
            odd = "-c datestyle=German,DMY -c timezone=Asia/Tokyo -c extra_float_digits=-3 -c intervalstyle=postgres "
            odd += "-c bytea_output=escape -c search_path=pg_temp"
            with psycopg.connect(**application.conninfo(), options=odd, autocommit=True) as writer:  # type: ignore[arg-type]
                writer.execute(
                    "insert into public.keyless values "
                    "('2026-03-01 12:00:00+00', 0.1::float8 + 0.2, '\\x00ff', '1 day 2 hours', 12.5)"
                )
                writer.execute('insert into public.made (id, n, "Odd "" name") values (1, 2, E\'a\\\\b"c,d(e)\\n\')')
                writer.execute("insert into public.part values (1, 'a'), (2, 'b')")
                writer.execute("update public.part set kind = 'b' where id = 1")  # to another partition
                writer.execute("truncate public.part_a")
                writer.execute("truncate public.part")  # one of its partitions came later
                writer.execute("insert into public.fast values (1)")
                writer.execute("insert into public.nothing default values")
                writer.execute("insert into public.later values (1)")
                writer.execute("delete from public.keyless")
            with connect(target) as connection:
                connection.execute("set session_replication_role = replica")
                connection.execute("update made set n = 3")
                connection.execute("alter table made add extra text")
            drained = drain(target, made.facts, made.spool)
            assert drained.unseen == () and drained.changed_tables == ("public.made",)
            found = changes(made)
            truncated = [one[:2] for one in found[7:] if one[1] == "truncate"]
            assert {table for table, _ in truncated} == {"public.part_a", "public.part_b"}
            exact = {
                "at": "2026-03-01 12:00:00+00",
                "size": "0.30000000000000004",
                "raw": "\\x00ff",
                "took": "P1DT2H",
                "price": "$12.50",
            }
            assert found[0] == ("public.keyless", "insert", exact)
            assert found[1] == ("public.made", "insert", {"id": "1", "n": "2", 'Odd " name': 'a\\b"c,d(e)\n'})
            assert [(table, action) for table, action, _ in found[2:]] == [
                ("public.part_a", "insert"),
                ("public.part_b", "insert"),
                ("public.part_a", "delete"),
                ("public.part_b", "insert"),
                ("public.part_a", "truncate"),
                *truncated,
                ("public.fast", "insert"),
                ("public.nothing", "insert"),
                ("public.later", "insert"),
                ("public.keyless", "delete"),
                ("public.made", "update"),
            ]
            assert lag(target, made.facts).safe_bytes is None
        assert ask(target, NOTHING) == [(0,), (0,), (0,)]
    finally:
        with connect(target) as connection:
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_tables_that_are_made_while_triggers_capture_are_captured_whatever_becomes_of_them(
    any_database: Target, tmp_path: Path
) -> None:
    target = any_database
    role = f"{target.dbname}_app"
    with connect(target) as connection:
        connection.execute(f"create role {role} login password 'only-for-tests'")
        connection.execute(f"grant create on schema public to {role}")
    try:
        with ground(target, tmp_path, ODD, "select 1", how="triggers") as made:
            assert made.facts.follows_tables and made.facts.promises == ()
            mapping = made.mapping()
            application = target.login(role, "only-for-tests")
            with psycopg.connect(**application.conninfo(), autocommit=True) as writer:  # type: ignore[arg-type]
                writer.execute("create temp table passing as select 1 as n")
                writer.execute("create table noted as select n, 'x' || n as what from generate_series(1, 2) n")
                writer.execute("select 3 as n into chosen")
                writer.execute("create table gone (n int)")
                writer.execute("insert into gone values (1)")
                writer.execute("drop table gone")
                writer.execute("create table grown (n int)")
                writer.execute("alter table grown add m int")
                writer.execute("insert into grown values (1, 2)")
                writer.execute("truncate noted")
                writer.execute("create table lost (n int)")
                for column in ("a", "b", "c"):  # more often than anybody can follow
                    writer.execute(f"alter table lost add {column} int")
                    writer.execute("insert into lost values (1)")
            with connect(target) as connection:
                connection.execute("create table part_c (id int not null, kind text not null)")
                connection.execute("insert into part_c values (1, 'c')")
                connection.execute("alter table part attach partition part_c for values in ('c')")
                connection.execute("insert into part values (2, 'c')")
                connection.execute("alter table part detach partition part_c")
                connection.execute("insert into part_c values (3, 'c')")
            drained = drain(target, made.facts, made.spool)
            assert (drained.unseen, drained.changed_tables) == (("public.lost",), ())
            found = [(table, action, one.get("n", one.get("id"))) for table, action, one in changes(made)]
            assert [one for one in found if one[0] != "public.lost"] == [
                ("public.noted", "insert", "1"),
                ("public.noted", "insert", "2"),
                ("public.chosen", "insert", "3"),
                ("public.gone", "insert", "1"),
                ("public.grown", "insert", "1"),
                ("public.noted", "truncate", None),
                ("public.part_c", "insert", "1"),
                ("public.part_c", "insert", "2"),
                ("public.part_c", "insert", "3"),
            ]
            outcome = replay(made.twin, made.live, made.spool, mapping, launch_id=LAUNCH, out=made.folder / "out")
            assert (outcome.put_aside, outcome.stashed, outcome.transactions) == (0, 9, 11)
            stashed = (made.folder / "out" / "stash.jsonl").read_text().splitlines()
            rows = [(one["relation"], one["action"], one["values"].get("n")) for one in map(json.loads, stashed)]
            assert ("public.noted", "truncate", None) in rows and ("public.grown", "insert", "1") in rows
            with closing(sqlite3.connect(":memory:")) as store, connect(target) as connection:
                store.executescript(AFFECTED)
                fates = Fates(store, mapping, read_catalogue(connection), None)
                told = {one.table: fates.of(one, {})[0] for one in read_changes(made.spool)}
            assert told["public.gone"] == "not carried" and told["public.chosen"] == "stashed"
        assert ask(target, NOTHING) == [(0,), (0,), (0,)]
    finally:
        with connect(target) as connection:
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_a_table_that_is_made_of_a_query_may_have_columns_of_any_name(database: Target, tmp_path: Path) -> None:
    """Each of these has been an alias in a query of ours."""
    names = ("t", "c", "one", "new", "old", "relation", "changes", "safepoint_capture")
    words = ", ".join(f"n || '{name}' as \"{name}\"" for name in names)
    with ground(database, tmp_path, ODD, "select 1", how="triggers") as made:
        made.write(f"create table copied as select {words} from generate_series(1, 2) n")
        made.drain()
        told = [(table, action, row) for table, action, row in changes(made) if table == "public.copied"]
        assert told == [("public.copied", "insert", {name: f"{n}{name}" for name in names}) for n in (1, 2)]


def test_a_table_that_was_there_becomes_a_partition_and_is_one_no_longer(any_database: Target, tmp_path: Path) -> None:
    """As a job does that makes partitions ahead: its ALTER TABLE must not fail, nor a row be noted twice."""
    schema = ODD + "create table ready (id int not null, kind text not null)"
    with ground(any_database, tmp_path, schema, "select 1", how="triggers") as made:
        made.write("insert into ready values (1, 'c')")
        made.write("alter table part attach partition ready for values in ('c')", "insert into part values (2, 'c')")
        made.write("insert into part values (3, 'c')")
        made.write("alter table part detach partition ready", "insert into ready values (4, 'c')")
        made.write("insert into ready values (5, 'c')")
        assert drain(made.live, made.facts, made.spool).unseen == ()
        found = [(table, action, one["id"]) for table, action, one in changes(made)]
        assert found == [("public.ready", "insert", str(number)) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("off", "on", "named"),
    [
        ("alter table note disable trigger user", "alter table note enable trigger user", "public.note"),
        ("alter table part disable trigger all", "alter table part enable trigger all", "public.part public.part_a"),
        ("alter table part_a disable trigger user", "alter table part_a enable trigger user", "public.part_a"),
        ('alter table note disable trigger "!safepoint_rows"', "select 1", "public.note"),
    ],
)
def test_a_table_whose_triggers_were_off_for_a_bulk_import_is_named_at_every_drain_from_then_on(
    any_database: Target, tmp_path: Path, off: str, on: str, named: str
) -> None:
    schema = ODD + "create table note (id int, kind text default 'a')"
    with ground(any_database, tmp_path, schema, "select 1", how="triggers") as made:
        table = "note" if "note" in named else "part"
        made.write(f"insert into {table} (id, kind) values (1, 'a')")
        assert drain(made.live, made.facts, made.spool).unseen == ()
        made.write(off)
        made.write(f"insert into {table} (id, kind) values (2, 'a')")
        made.write(on)
        made.write(f"insert into {table} (id, kind) values (3, 'a')")
        for _ in range(2):
            assert drain(made.live, made.facts, made.spool).unseen == tuple(named.split())
        assert {"1"} <= {str(row["id"]) for _, _, row in changes(made)} <= {"1", "3"}


@pytest.mark.parametrize("follows", [True, False], ids=["followed", "not-followed"])
def test_a_table_can_become_a_partition_and_each_of_its_changes_is_noted_once(
    any_database: Target, tmp_path: Path, follows: bool
) -> None:
    schema = "create table loose (id int, kind text) partition by list (kind); create table alone (id int, kind text)"
    with ground(any_database, tmp_path, schema, "select 1", how="triggers") as made:
        if not follows:  # as where the conductor is no superuser
            made.write("drop event trigger safepoint_capture")
        made.write("insert into alone values (1, 'a'), (1, 'a')")
        made.write("alter table loose attach partition alone for values in ('a')")
        made.write("insert into loose values (2, 'a'), (2, 'a')", "delete from alone where id = 1")
        assert drain(made.live, made.facts, made.spool).unseen == ()
        found = [(action, row.get("id")) for _, action, row in changes(made)]
        assert found == [("insert", "1")] * 2 + [("insert", "2")] * 2 + [("delete", "1")] * 2
        made.write("alter table loose detach partition alone", "insert into alone values (3, 'a')")
        # Its own trigger goes where an event trigger would make another one.
        assert drain(made.live, made.facts, made.spool).unseen == ()
        assert changes(made)[-1][1:] == ("insert", {"id": "3", "kind": "a"})


def test_a_partition_that_was_detached_where_no_event_trigger_could_be_made_is_named_as_not_captured(
    any_database: Target, tmp_path: Path
) -> None:
    with ground(any_database, tmp_path, ODD, "select 1", how="triggers") as made:
        made.write("drop event trigger safepoint_capture")
        made.write("alter table part detach partition part_a", "update part_a set id = id + 1")
        assert drain(made.live, made.facts, made.spool).unseen == ("public.part_a",)


def test_where_no_event_trigger_may_be_made_new_tables_are_named_as_not_captured(
    database: Target, tmp_path: Path
) -> None:
    role = f"{database.dbname}_owner"
    owner = database.login(role, "only-for-tests")
    with connect(database) as connection:
        connection.execute(f"create role {role} login password 'only-for-tests'")
        connection.execute(f"alter database {database.dbname} owner to {role}")
        connection.execute("create table others (id int)")
    try:
        facts = arm(owner, LAUNCH, "triggers")
        told = " ".join(facts.promises)
        assert not facts.follows_tables and "made after the launch" in told and "public.others is not captured" in told
        with connect(owner) as connection:
            connection.execute("create table later (n int)")
            connection.execute("insert into later values (1)")
        assert drain(owner, facts, tmp_path / "spool").unseen == ("public.later",)
        disarm(owner, facts)
        assert ask(database, NOTHING) == [(0,), (0,), (0,)]
    finally:
        with connect(database) as connection:
            connection.execute(f"alter database {database.dbname} owner to postgres")
            connection.execute(f"drop owned by {role}")
            connection.execute(f"drop role {role}")


def test_a_transaction_that_is_open_across_drains_is_not_skipped_and_stands_in_order(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        slow = psycopg.connect(**database.conninfo())  # type: ignore[arg-type]
        slow.execute("update customer set name = 'slow' where id = 1")
        made.write("update customer set name = 'quick' where id = 2", "insert into customer (name) values ('six')")
        made.drain()
        assert [row["name"] for _, _, row in changes(made)] == ["quick", "six"]
        made.write("update customer set name = 'quick again' where id = 2")
        slow.execute("update customer set name = 'slow too' where id = 3")
        made.drain()
        slow.commit()
        # Whoever waited for its lock comes after it.
        made.write("update customer set name = 'after the slow one' where id = 1")
        outcome = made.carry()
        assert outcome.transactions == 4 and outcome.carried == 4
        assert made.old("select name from customer where id <= 3 order by id") == [
            ("after the slow one",),
            ("quick again",),
            ("slow too",),
        ]
        slow.close()
        # What is in the spool has left the database, and a spool without its note of the place is read to its end.
        assert made.new("select count(*) from safepoint_capture.changes") == [(0,)]
        made.spool.with_name("spool.pos").unlink()
        assert durable_position(made.spool, read_header(made.spool)[1]).transactions == 4
        assert made.carry().already


def test_a_trigger_of_the_application_that_changes_other_rows_of_the_same_statement_is_followed(
    any_database: Target, tmp_path: Path
) -> None:
    before = """
    create table node (id int primary key, place int, touched int not null default 0);
    insert into node select n, n from generate_series(1, 6) n;
    """
    migration = """
    create function shift() returns trigger language plpgsql as $$ begin
        if pg_trigger_depth() < 3 then
            update node set touched = touched + 1, place = place + 10 where id <> new.id and id % 2 = new.id % 2;
        end if;
        return null; end $$;
    create trigger a_first after update on node for each row when (pg_trigger_depth() < 2) execute function shift();
    """
    with ground(any_database, tmp_path, before, migration, how="triggers") as made:
        made.write("update node set place = place + 1", "update node set place = -place where id in (1, 3)")
        made.write("insert into node values (7, 7)", "update node set place = 0 where id in (5, 7)")
        late = made.new("select count(*) from safepoint_capture.changes where late is not null")
        assert late[0][0] > 0
        made.carry()
        query = "select id, place, touched from node order by id"
        assert made.old(query) == made.new(query)


def test_a_drain_that_is_cut_short_counts_for_nothing_and_the_next_one_takes_everything_once(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        made.write("update customer set name = 'first'")
        made.drain()
        for number in range(3):
            made.write(f"insert into customer (name) select 'n{number}-' || n from generate_series(1, 3000) n")
        looks = iter([False, False, True])
        cut = drain(database, made.facts, made.spool, cancelled=lambda: next(looks))
        assert not cut.complete
        assert durable_position(made.spool, read_header(made.spool)[1]).transactions == 1
        assert len(changes(made)) == 5  # the half-written one does not count
        made.drain()
        assert len(changes(made)) == 5 + 9000
        assert made.carry().carried == 4
        assert made.old("select count(*) from customer") == [(9005,)]


def test_where_there_can_be_no_triggers_either_the_launch_goes_on_and_says_so(database: Target) -> None:
    with connect(database) as connection:
        connection.execute("drop extension plpgsql")
    facts = arm(database, LAUNCH, "triggers")
    assert facts.mode == "none" and "no plpgsql" in (facts.reason or "")


def test_triggers_that_someone_took_away_are_an_alarm_and_those_of_others_are_left_alone(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        again = arm(database, LAUNCH, "triggers")  # after a kill
        assert again.mode == "triggers" and again.reason == "the plan file says so"
        with pytest.raises(Refused, match="did not make for this launch"):
            arm(database, "another", "triggers")
        with connect(database) as connection:
            connection.execute("drop schema safepoint_capture cascade")
        with pytest.raises(CaptureLost, match="dropped"):
            drain(database, made.facts, made.spool)
    assert [choose(how, why) for how in ("auto", "logical", "triggers") for why in (None, "replica")] == [
        "logical",
        "triggers",
        "logical",
        "none",
        "triggers",
        "triggers",
    ]
