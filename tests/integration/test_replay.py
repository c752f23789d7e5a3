"""The replay, case by case: what the old schema can hold is carried, everything else is told, nothing stands twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from postgres_servers import drop_database
from psycopg import sql
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ask, ground, operations

from safepoint.errors import Interrupted, Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback import applying, compaction, holding
from safepoint.wayback.mapping import WayBack
from safepoint.wayback.outcome import Outcome
from safepoint.wayback.replay import replay


def reasons(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(one.table.partition(".")[2], one.kind, str(one.key.get("id"))) for one in outcome.aside]


def lines(outcome: Outcome, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(outcome.files[name]).read_text().splitlines()]


@pytest.fixture(params=[False, True], ids=["whole", "by-index"])
def looking_up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What constraints ask of the twin's tables: as for small tables, and as for big ones."""
    for room in (compaction, holding):
        monkeypatch.setattr(room, "few", lambda *_: request.param)


@pytest.mark.usefixtures("looking_up")
def test_rows_that_the_old_schema_cannot_hold_are_put_aside_with_what_depends_on_them(
    any_database: Target, tmp_path: Path
) -> None:
    with ground(any_database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values (repeat('x', 21)), ('fits')")
        made.write("insert into purchase (customer_id, total) values (6, 1), (7, 2)")
        made.write("insert into purchase_line (purchase_id, what) values (6, 'with its parent'), (7, 'carried')")
        made.write("update purchase set total = -1 where id = 1", "update purchase set total = 1.2345 where id = 2")
        made.write(
            "update purchase set total = 12345678.5 where id = 3", "update customer set name = 'new' where id = 3"
        )
        made.write("update customer set mail = 'c1@x' where id = 2")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("customer", "unique", "2"),
            ("customer", "value", "6"),
            ("purchase", "foreign key", "6"),
            ("purchase", "value", "1"),
            ("purchase", "value", "2"),
            ("purchase", "value", "3"),
            ("purchase_line", "foreign key", "6"),
        ]
        assert {one.reason for one in outcome.aside} >= {
            "name does not fit into character varying(20)",
            "total does not fit into numeric(8,2)",
            "check purchase_total_check",
            "another row has the same customer_mail_key",
            "the row of customer that customer_id refers to is not there",
        }
        assert made.old("select id, name, mail from customer where id in (2, 3, 7) order by 1") == [
            (2, "c2", "c2@x"),
            (3, "new", "c3@x"),
            (7, "fits", None),
        ]
        assert made.old("select id, total::text, legacy from purchase where id in (1, 2, 3, 7) order by 1") == [
            (1, "1.00", 1),
            (2, "2.00", 2),
            (3, "3.00", 3),
            (7, "2.00", 7),
        ]
        assert (outcome.carried, outcome.partly, outcome.not_carried, outcome.stashed) == (0, 4, 2, 0)
        assert len(lines(outcome, "put_aside")) == 7 and len(lines(outcome, "transactions")) == 6
        assert lines(outcome, "put_aside")[0]["values"]["name"] == "x" * 21


def test_a_whole_transaction_is_put_aside_where_the_plan_says_so_with_those_that_build_on_it(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update customer set name = 'kept' where id = 1")
        made.write("update customer set name = 'lost' where id = 1", "update purchase set total = -1 where id = 1")
        made.write("update customer set mail = 'later' where id = 1", "update customer set name = 'too' where id = 2")
        made.write("update customer set name = 'other' where id = 3")
        outcome = made.carry(policy="transaction")
        assert (outcome.carried, outcome.partly, outcome.not_carried) == (2, 0, 2)
        assert made.old("select name, mail from customer where id < 4 order by id") == [
            ("kept", "c1@x"),
            ("c2", "c2@x"),
            ("other", "c3@x"),
        ]
        assert {one.kind for one in outcome.aside} == {"transaction"}


def test_where_a_constraint_trigger_holds_rows_together_no_half_of_a_transaction_is_carried(
    database: Target, tmp_path: Path
) -> None:
    trigger = """
    create function balanced() returns trigger language plpgsql as $$ begin return null; end $$;
    create constraint trigger balance after insert or update on purchase_line deferrable initially deferred
        for each row execute function balanced();
    """
    with ground(database, tmp_path, SHOP + trigger, RELAX, RELAXED) as made:
        made.write("update purchase set total = -1 where id = 1", "update purchase_line set what = 'half' where id = 1")
        made.write("update purchase set total = -1 where id = 2", "update customer set name = 'row' where id = 2")
        outcome = made.carry()
        assert made.old("select what from purchase_line where id = 1") == [("w1",)]
        assert made.old("select name from customer where id = 2") == [("row",)]
        assert (outcome.not_carried, outcome.partly) == (1, 1)


@pytest.mark.usefixtures("looking_up")
def test_rows_that_are_not_as_the_capture_says_are_conflicts(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        with connect(made.twin) as connection:
            connection.execute("insert into customer values (6, 'already')")
            connection.execute("delete from purchase_line where id in (1, 2)")
            connection.execute("insert into purchase_line values (6, 1, 'already')")
        made.write("update purchase_line set what = 'gone' where id = 1", "delete from purchase_line where id = 2")
        made.write("insert into purchase_line (purchase_id, what) values (1, 'six'), (1, 'seven')")
        made.write("insert into customer values (-1, 'below'), (6, 'six'), (7, 'above')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("customer", "conflict", "6"),
            *(("purchase_line", "conflict", str(key)) for key in (1, 2, 6)),
        ]
        assert made.old("select id, name from customer where id not between 1 and 5 order by 1") == [
            (-1, "below"),
            (6, "already"),
            (7, "above"),
        ]
        assert made.old("select id, what from purchase_line where id > 5 order by 1") == [(6, "already"), (7, "seven")]
        table = next(one for one in outcome.tables if one.table == "public.purchase_line")
        assert (table.conflicts, table.inserted, table.put_aside) == (3, 1, 0)


KEPT_RULES = """
alter table customer alter name type varchar(200);
alter table purchase drop legacy;
update customer set mail = 'moved@x' where id = 1;
insert into customer (id, name) values (50, 'made by the migration');
"""


@pytest.mark.usefixtures("looking_up")
def test_rules_that_the_new_schema_keeps_are_asked_where_the_twin_differs_all_the_same(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration changed rows in a way that nobody said: what was written on top of it does not fit the twin."""
    settled: list[bool] = []
    settle = holding.settle

    def noted(*words: Any) -> int:
        settled.append(words[3:] == () or words[3] is None)
        return settle(*words)

    for room in (applying, holding):
        monkeypatch.setattr(room, "settle", noted)
    with ground(database, tmp_path, SHOP, KEPT_RULES, RELAXED) as made:
        made.write(
            "insert into customer (name, mail) values ('fits', 'fits@x')", "delete from purchase_line where id = 1"
        )
        assert made.carry().put_aside == 0 and settled == [False]
        made.write("insert into customer (name, mail) values ('again', 'c1@x')")
        made.write("insert into purchase (customer_id, total) values (50, 1), (2, 2), (7, 3)")
        made.write("insert into purchase_line (purchase_id, what) values (6, 'follows'), (7, 'carried'), (8, 'too')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("customer", "unique", "7"),
            ("purchase", "foreign key", "6"),
            ("purchase", "foreign key", "8"),
            ("purchase_line", "foreign key", "6"),
            ("purchase_line", "foreign key", "8"),
        ]
        assert True in settled
        assert made.old("select purchase_id, what from purchase_line where purchase_id > 5") == [(7, "carried")]
        assert made.old("select id, mail from customer where id > 5") == [(6, "fits@x")]


def test_a_deferrable_key_is_asked_about_for_no_index_refuses_its_rows(database: Target, tmp_path: Path) -> None:
    before = SHOP + "alter table customer drop constraint customer_mail_key, add unique (mail) deferrable;"
    with ground(database, tmp_path, before, KEPT_RULES, RELAXED) as made:
        made.write("insert into customer (name, mail) values ('again', 'c1@x'), ('fits', 'fits@x')")
        outcome = made.carry()
        assert reasons(outcome) == [("customer", "unique", "6")]
        assert made.old("select id, mail from customer where id > 5") == [(7, "fits@x")]


def test_values_without_a_home_are_stashed_in_files_and_in_tables(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("truncate coupon")
        made.write("truncate coupon, purchase_line")
        made.write("insert into coupon (code) values ('one'), ('two')", "update coupon set code = 'TWO' where id = 2")
        made.write("update purchase set note = 'by hand' where id = 1")
        outcome = made.carry()
        stash = {(one["relation"], one["key"].get("id")): one["values"] for one in lines(outcome, "stash")}
        assert stash == {
            ("public.coupon", None): {},  # it was emptied first
            ("public.coupon", "1"): {"id": "1", "code": "one"},
            ("public.coupon", "2"): {"id": "2", "code": "TWO"},
            ("public.purchase", "1"): {"note": "by hand"},
        }
        assert (outcome.carried, outcome.stashed, outcome.transactions) == (2, 2, 4)
        assert made.old("select count(*) from safepoint.stash") == [(4,)]


@pytest.mark.usefixtures("looking_up")
def test_unique_values_may_be_exchanged_and_keys_handed_on(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, "select 1") as made:
        made.write(
            "update customer set mail = null where id = 1",
            "update customer set mail = 'c1@x' where id = 2",
            "update customer set mail = 'c2@x' where id = 1",
            "delete from purchase_line where id = 5",
            "update purchase_line set id = 5 where id = 4",
            "update purchase_line set id = 4 where id = 3",
        )
        outcome = made.carry()
        assert outcome.put_aside == 0 and outcome.carried == 1
        assert made.old("select mail from customer where id < 3 order by id") == [("c2@x",), ("c1@x",)]
        assert made.old("select id, what from purchase_line where id > 2 order by 1") == [(4, "w3"), (5, "w4")]


def test_large_values_that_were_not_touched_are_looked_up(any_database: Target, tmp_path: Path) -> None:
    with ground(any_database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update purchase set total = 9 where id = 1", "update purchase_line set purchase_id = 5")
        made.write("delete from purchase where id = 2", "update purchase set id = 2 where id = 3")
        made.write("insert into purchase (customer_id, total, body) values (1, 1, repeat('new', 3000))")
        made.write("update purchase set total = 2 where id = 6")
        outcome = made.carry()
        assert outcome.put_aside == 0
        query = "select id, md5(body), length(body) from purchase order by 1"
        assert made.old(query) == made.new(query)
        assert made.old("select legacy from purchase order by id") == [(1,), (3,), (4,), (5,), (7,)]


BIG = """
create table tagged (code text, n int, what varchar(9), gone int default 7, primary key (code, n));
create table plain (id int primary key, what text);
insert into tagged select 'k' || n, n, 'w', n from generate_series(1, 5000) n;
insert into plain select n, 'p' from generate_series(1, 5000) n;
analyze
"""


def test_few_changes_of_a_big_table_are_looked_up_by_its_key(
    any_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the keys are looked up, the end is the same; a table that is as small as its changes is read whole."""
    asked: list[str] = []
    run = compaction.run

    def noted(connection: Connection, statement: str) -> int:
        asked.append(statement)
        return run(connection, statement)

    monkeypatch.setattr(compaction, "run", noted)
    grown = "alter table tagged alter n type bigint, drop gone, alter what type text"
    grown += "; alter table plain alter id type bigint"
    dropped = operations(("column-removed", "tagged", "tagged", "gone", None))
    with ground(any_database, tmp_path, BIG, grown, dropped) as made:
        made.write(
            "update tagged set what = 'new' where n = 17",
            "delete from tagged where n in (18, 19)",
            "insert into tagged values ('k18', 18, 'again'), ('x', 6000, 'added')",
            "update tagged set code = 'moved' where n = 20",
            "update plain set what = 'q' where id between 4990 and 5000",
            "insert into plain values (5001, 'r')",
        )
        outcome = made.carry()
        assert (outcome.carried, outcome.transactions, outcome.put_aside) == (1, 1, 0)
        assert made.old("select code, n, what, gone from tagged where n in (17, 18, 19, 20, 6000) order by n") == [
            ("k17", 17, "new", 17),
            ("k18", 18, "again", 7),
            ("moved", 20, "w", 20),
            ("x", 6000, "added", 7),
        ]
        assert made.old("select what, count(*) from plain group by 1 order by 1") == [("p", 4989), ("q", 11), ("r", 1)]
        by_key = [one for one in asked if "LEFT JOIN LATERAL (SELECT o.ctid" in one]
        assert len(by_key) == 2, asked
        del asked[:]
        made.write("update plain set what = 's'")
        assert made.carry().put_aside == 0 and made.old("select distinct what from plain") == [("s",)]
        assert not [one for one in asked if "LEFT JOIN LATERAL (SELECT o.ctid" in one]


def test_no_id_is_given_out_again(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, "alter table purchase_line rename to line") as made:
        found = operations(("table-renamed", "purchase_line", "line", None, None))
        made.operations = found
        made.write("insert into line (purchase_id, what) values (1, 'x')", "delete from line where id = 6")
        made.write("select nextval('customer_id_seq') from generate_series(1, 40)")
        with connect(made.twin) as connection:
            connection.execute("select setval('purchase_id_seq', 1000)")
        outcome = made.carry()
        assert outcome.sequences == {"public.customer_id_seq": 45, "public.purchase_line_id_seq": 6}
        assert made.old("select nextval('purchase_line_id_seq'), nextval('purchase_id_seq')") == [(7, 1001)]


def test_triggers_are_silent_even_those_that_always_fire(database: Target, tmp_path: Path) -> None:
    triggers = """
    create table audit (what text);
    create function note() returns trigger language plpgsql as $$
        begin insert into audit values (tg_op); return new; end $$;
    create trigger ordinary before insert on customer for each row execute function note();
    create trigger always before insert on customer for each row execute function note();
    alter table customer enable always trigger always;
    """
    with ground(database, tmp_path, SHOP + triggers, "select 1") as made:
        made.write("insert into customer (name) values ('audited twice')")
        made.carry()
        assert made.old("select what from audit") == made.new("select what from audit") == [("INSERT",), ("INSERT",)]
        assert made.old("select tgenabled::text from pg_trigger where tgname = 'always'") == [("A",)]


def test_what_no_query_looks_for_is_found_by_trying(database: Target, tmp_path: Path) -> None:
    before = """
    create table booking (id int primary key, during int4range, exclude using gist (during with &&));
    create table part (id int primary key, what text) partition by range (id);
    create table part_1 partition of part for values from (0) to (100);
    insert into booking values (1, '[1,5)');
    """
    migration = """
    alter table booking drop constraint booking_during_excl;
    create table part_2 partition of part for values from (100) to (200);
    """
    with ground(database, tmp_path, before, migration) as made:
        made.write("insert into booking values (2, '[3,8)'), (3, '[8,9)')")
        made.write("insert into part select n, 'p' from generate_series(90, 110) n", "delete from part where id = 91")
        outcome = made.carry()
        assert made.old("select id from booking order by 1") == [(1,), (3,)]
        assert made.old("select count(*), max(id) from part") == [(9, 99)]
        table = {one.table: one.put_aside for one in outcome.tables}
        assert table == {"public.booking": 1, "public.part": 11}


def test_rows_without_a_key_are_counted(database: Target, tmp_path: Path) -> None:
    before = "create table rate (day date, rate float8); insert into rate values ('2026-01-01', 1), ('2026-01-01', 1)"
    with ground(database, tmp_path, before, "alter table rate add source text") as made:
        made.write("delete from rate", "insert into rate values ('2026-01-01', 1, 'x'), ('2026-01-02', 0.1, null)")
        made.write("update rate set source = 'y' where rate = 1", "insert into rate values (null, 'NaN', null)")
        outcome = made.carry()
        assert outcome.put_aside == 0
        query = "select day::text, rate::text from rate order by 1, 2"
        assert made.old(query) == made.new(query)
        with connect(made.twin) as connection:
            connection.execute("delete from rate where rate = 1")
        made.write("delete from rate where rate = 1")
        assert [one.kind for one in made.carry().aside] == ["conflict"]


ODD = """
create type mood as enum ('sad', 'ok');
create domain positive as int check (value > 0);
create type pair as (a int, b text);
create table odd (
    id uuid primary key, b bytea, j json, jb jsonb, m mood, p positive, c pair, r tstzrange, i interval, t time with
    time zone, n numeric, f float4, ip inet, x macaddr, bits bit varying, ch char(5), a text[][], "Mixed Case" text,
    "select" int, made timestamptz, money money, tsv tsvector, vec int2vector, no_default point, hash int generated
    always as (length(coalesce("Mixed Case", ''))) stored);
"""
ODD_VALUES = """
insert into odd (id, b, j, jb, m, p, c, r, i, t, n, f, ip, x, bits, ch, a, "Mixed Case", "select", made, money, tsv,
    vec, no_default) values
('00000000-0000-0000-0000-000000000001', '\\x00ff5c0a', '{"a" :  1}', '{"b": [1.0, null]}', 'ok', 3, '(1,"x, y")',
 '[2026-01-01, infinity)', '1 year -3 days 4:05:06.789', '10:00+02', 'NaN', 'Infinity',
 '10.0.0.0/8', '08:00:2b:01:02:03',
 B'10110', 'ab', '{{a,NULL},{"\\\\ \\"",""}}', E'tab\\tnew\\nline \\\\ back',
 1, '-infinity', 1.5, 'a:1 b', '1 2', '(1,2)'),
('00000000-0000-0000-0000-000000000002', '', '[]', 'null', null, null, '(,)', 'empty', '0', null, 1.10, -0.0, '::1',
 null, B'', '', '{}', '', null, '2026-03-29 01:30:00.123456+00', -2, '', '', null)
"""


def test_every_type_comes_back_as_it_was(any_database: Target, tmp_path: Path) -> None:
    with ground(
        any_database,
        tmp_path,
        ODD,
        "alter table odd add extra mood default 'sad'; create type new_type as (x int);"
        " alter table odd add unknown new_type",
    ) as made:
        made.write(ODD_VALUES)
        made.write("update odd set unknown = row(1), \"select\" = 5 where ip = '::1'")
        outcome = made.carry()
        assert outcome.put_aside == 0 and outcome.carried == 2
        names = [
            row[0]
            for row in made.old(
                "select attname from pg_attribute where attrelid = 'odd'::regclass and attnum > 0 order by attnum"
            )
        ]
        query = "select " + ", ".join(f'"{name}"::text' for name in names) + " from odd order by id"
        assert made.old(query) == made.new(query)


def test_content_types_are_matched_by_what_they_name(database: Target, tmp_path: Path) -> None:
    before = """
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table django_admin_log (id serial primary key, what text,
        content_type_id int references django_content_type deferrable initially deferred);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    """
    migration = """
    delete from django_content_type; update django_admin_log set content_type_id = null;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'posting'), (3, 'shop', 'tag');
    """
    found = operations(("model-renamed", "line", "posting", "shop.posting", None))
    with ground(database, tmp_path, before, migration, found) as made:
        made.write(
            "insert into django_admin_log (what, content_type_id) values ('i', 1), ('p', 2), ('t', 3), ('n', null)"
        )
        outcome = made.carry()
        assert made.old("select what, content_type_id from django_admin_log order by 1") == [
            ("i", 2),
            ("n", None),
            ("p", 1),
        ]
        assert [(one.kind, one.key) for one in outcome.aside] == [("foreign key", {"id": "3"})]


def test_a_closed_twin_is_entered_and_closed_again(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        allow = sql.SQL("alter database {} allow_connections {}")
        name = sql.Identifier(made.twin.dbname)
        mapping = made.mapping()
        with connect(database.on("postgres")) as connection:
            connection.execute(allow.format(name, sql.SQL("false")))
            made.write("insert into customer (name) values ('x')")
            made.drain()
            try:
                done = replay(made.twin, made.live, made.spool, mapping, launch_id=LAUNCH, out=tmp_path / "out")
                query = "select datallowconn from pg_database where datname = %s"
                assert connection.execute(query, [made.twin.dbname]).fetchone() == (False,)
            finally:
                connection.execute(allow.format(name, sql.SQL("true")))
        assert done.carried == 1 and made.old("select count(*) from customer") == [(6,)]


def test_what_cannot_be_carried_safely_is_refused(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, operations()) as made:
        made.write("insert into customer (name) values ('x')")
        with pytest.raises(Refused, match="not known for all columns") as caught:
            made.carry()
        assert "purchase.legacy needs a mapper" in str(caught.value)
        made.operations = RELAXED
        with pytest.raises(Interrupted):
            made.replay(cancelled=lambda: True)
        made.write("alter table customer add surprise int", "insert into customer (name) values ('y')")
        with pytest.raises(Refused, match=r"columns of public\.customer are not those"):
            made.carry()
        assert made.old("select count(*), to_regnamespace('safepoint') is null from customer") == [(5, True)]


def test_what_an_earlier_launch_left_in_the_database_is_kept_under_another_name(
    database: Target, tmp_path: Path
) -> None:
    left = """
    create schema safepoint; comment on schema safepoint is 'made by Safepoint for launch shop-1.5: replay';
    create table safepoint.stash (n int); insert into safepoint.stash values (1);
    """
    with ground(database, tmp_path, SHOP + left, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values ('x')")
        assert made.carry().carried == 1
        names = made.old("select nspname from pg_namespace where nspname like 'safepoint%' order by 1")
        assert len(names) == 2 and made.old(f"select n from {names[1][0]}.stash") == [(1,)]
    with connect(database) as connection:
        connection.execute("drop schema safepoint cascade; create schema safepoint")
    with connect(database.on("postgres")) as connection:
        words = {"new": sql.Identifier(made.twin.dbname), "old": sql.Identifier(database.dbname)}
        connection.execute(sql.SQL("create database {new} template {old}").format(**words))
    with pytest.raises(Refused, match="schema named safepoint"):
        replay(made.twin, database, made.spool, WayBack(()), launch_id=LAUNCH, out=tmp_path / "out")
    drop_database(made.twin)


KILLED = """
import os, signal, sys
from pathlib import Path
from safepoint.postgres.target import Target
from safepoint.wayback import applying, records, replay as room
from safepoint.wayback.capture import drain
from safepoint.wayback.mapping import WayBack
import json
twin, live = (Target(*one) for one in {targets!r})
point = {point!r}
place = next((one for one in (records, applying, room) if hasattr(one, point)), None)
real = getattr(place, point, None)
def killed(*words):
    if point == "record":
        real(*words)
    os.kill(os.getpid(), signal.SIGKILL)
if point == "after":
    mapping = WayBack.from_json(json.loads(Path({mapping!r}).read_text()))
    room.replay(twin, live, Path({spool!r}), mapping, launch_id={launch!r}, out=Path({out!r}))
    os.kill(os.getpid(), signal.SIGKILL)
setattr(place, point, killed)
mapping = WayBack.from_json(json.loads(Path({mapping!r}).read_text()))
room.replay(twin, live, Path({spool!r}), mapping, launch_id={launch!r}, out=Path({out!r}))
"""


@pytest.mark.parametrize("point", ["merge", "raise_sequences", "write_files", "record", "after"])
def test_killed_before_or_after_its_commit_nothing_is_lost_and_nothing_stands_twice(
    database: Target, tmp_path: Path, point: str
) -> None:
    before = SHOP + "create table tally (what text);"
    with ground(database, tmp_path, before, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values ('a'), ('b')", "insert into tally values ('one')")
        made.write("delete from purchase_line where id = 1", "update customer set name = 'c' where id = 1")
        made.drain()
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps(made.mapping().as_json()))
        targets = [(one.host, one.port, one.dbname, one.user, one.password) for one in (made.twin, made.live)]
        code = KILLED.format(
            targets=targets,
            point=point,
            mapping=str(mapping),
            spool=str(made.spool),
            launch=LAUNCH,
            out=str(tmp_path / "out"),
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -9, done.stderr
        outcome = made.replay()
        assert outcome.already is (point == "after") and outcome.carried == 2
        made.write("insert into tally values ('two')")
        assert made.carry().transactions == 3  # all so far
        assert made.replay().already
        for query in ("select name from customer order by id", "select * from tally", "select id from purchase_line"):
            assert sorted(made.old(query)) == sorted(made.new(query))
        assert ask(made.twin, "select count(*) from safepoint.replays") == [(2,)]
        assert threading.active_count() < 5


@pytest.mark.slow
def test_killed_at_random_instants_the_end_is_the_same(database: Target, tmp_path: Path) -> None:
    """Some forty kills, spread over the whole replay; then one that is left alone."""
    with ground(database, tmp_path, SHOP + "create table tally (n int);", RELAX, RELAXED) as made:
        made.write(
            "insert into customer (name) select 'n' || n from generate_series(1, 20000) n",
            "insert into tally select n from generate_series(1, 20000) n",
            "update customer set mail = 'm' || id",
        )
        made.drain()
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps(made.mapping().as_json()))
        words = {
            "targets": [(one.host, one.port, one.dbname, one.user, one.password) for one in (made.twin, made.live)],
            "mapping": str(mapping),
            "spool": str(made.spool),
            "launch": LAUNCH,
            "out": str(tmp_path / "out"),
        }
        code = KILLED.format(point="after", **words)
        for number in range(40):
            process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
            try:
                process.wait(0.3 + number * 0.04)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        outcome = made.replay()
        assert (outcome.carried, outcome.put_aside) == (1, 0)
        for query in ("select id, name, mail from customer", "select n from tally"):
            assert sorted(made.old(query)) == sorted(made.new(query))
        assert ask(made.twin, "select count(*) from safepoint.replays") == [(1,)]
