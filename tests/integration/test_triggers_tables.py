"""Capture by triggers, and tables that are made, attached, detached or loaded in bulk meanwhile."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from awkward import run
from replay_ground import LAUNCH, Ground, ask, ground
from trigger_ground import NOTHING, ODD, application_role, changes

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import SCHEMA as AFFECTED
from safepoint.wayback.affected.fates import Fates
from safepoint.wayback.capture.capture import arm, disarm, drain
from safepoint.wayback.capture.spool import read_changes
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.replay import replay

MADE_SINCE = (
    "create temp table passing as select 1 as n",
    "create table noted as select n, 'x' || n as what from generate_series(1, 2) n",
    "select 3 as n into chosen",
    "create table gone (n int)",
    "insert into gone values (1)",
    "drop table gone",
    "create table grown (n int)",
    "alter table grown add m int",
    "insert into grown values (1, 2)",
    "truncate noted",
    "create table altered (n int)",
    *(
        statement
        for column in ("a", "b", "c")
        for statement in (f"alter table altered add {column} int", "insert into altered values (1)")
    ),
)


A_PARTITION_FOR_A_WHILE = (
    "create table part_c (id int not null, kind text not null)",
    "insert into part_c values (1, 'c')",
    "alter table part attach partition part_c for values in ('c')",
    "insert into part values (2, 'c')",
    "alter table part detach partition part_c",
    "insert into part_c values (3, 'c')",
)


def test_tables_that_are_made_while_triggers_capture_are_captured_whatever_becomes_of_them(
    any_database: Target, tmp_path: Path
) -> None:
    target = any_database
    with application_role(target) as role:
        run(target, f"grant create on schema public to {role}")
        with ground(target, tmp_path, ODD, "select 1", how="triggers") as made:
            assert made.facts.follows_tables and made.facts.promises == ()
            mapping = made.mapping()
            application = target.login(role, "only-for-tests")
            with psycopg.connect(**application.conninfo(), autocommit=True) as writer:  # type: ignore[arg-type]
                for statement in MADE_SINCE:
                    writer.execute(statement)  # type: ignore[call-overload]
            run(target, *A_PARTITION_FOR_A_WHILE)
            drained = drain(target, made.facts, made.spool)
            assert (drained.unseen, drained.changed_tables) == ((), ())
            found = [(table, action, one.get("n", one.get("id"))) for table, action, one in changes(made)]
            assert found == [
                ("public.noted", "insert", "1"),
                ("public.noted", "insert", "2"),
                ("public.chosen", "insert", "3"),
                ("public.gone", "insert", "1"),
                ("public.grown", "insert", "1"),
                ("public.noted", "truncate", None),
                *[("public.altered", "insert", "1")] * 3,
                ("public.part_c", "insert", "1"),
                ("public.part_c", "insert", "2"),
                ("public.part_c", "insert", "3"),
            ]
            assert_they_are_stashed_and_told(made, mapping)
        assert ask(target, NOTHING) == [(0,), (0,), (0,)]


def assert_they_are_stashed_and_told(made: Ground, mapping: WayBack) -> None:
    outcome = replay(made.twin, made.live, made.spool, mapping, launch_id=LAUNCH, out=made.folder / "out")
    assert (outcome.put_aside, outcome.stashed, outcome.transactions) == (0, 10, 11)
    stashed = (made.folder / "out" / "stash.jsonl").read_text().splitlines()
    rows = [(one["relation"], one["action"], one["values"].get("n")) for one in map(json.loads, stashed)]
    assert ("public.noted", "truncate", None) in rows and ("public.grown", "insert", "1") in rows
    with closing(sqlite3.connect(":memory:")) as store, connect(made.live) as connection:
        store.executescript(AFFECTED)
        fates = Fates(store, mapping, read_catalogue(connection), None)
        told = {one.table: fates.of(one, {})[0] for one in read_changes(made.spool)}
    assert told["public.gone"] == "not carried" and told["public.chosen"] == "stashed"


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
