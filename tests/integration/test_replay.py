"""The replay, case by case: what the old schema can hold is carried as it was, whatever its type and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from postgres_servers import drop_database
from psycopg import sql
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ground, lines, operations

from safepoint.errors import Interrupted, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.spool import Spool
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.trial.roundtrip import Accepted, doubtful, round_trip


def test_values_without_a_home_are_stashed_in_files_and_in_tables(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("truncate coupon")
        made.write("truncate coupon, purchase_line")
        made.write("insert into coupon (code) values ('one'), ('two')", "update coupon set code = 'TWO' where id = 2")
        made.write("update purchase set note = 'by hand' where id = 1")
        outcome = made.carry()
        stash = {(one["relation"], one["key"].get("id")): one["values"] for one in lines(outcome, "stash")}
        assert stash == {
            ("public.coupon", None): {},  # they were emptied first
            ("public.purchase_line", None): {},
            ("public.coupon", "1"): {"id": "1", "code": "one"},
            ("public.coupon", "2"): {"id": "2", "code": "TWO"},
            ("public.purchase", "1"): {"note": "by hand"},
        }
        assert (outcome.carried, outcome.stashed, outcome.transactions) == (2, 2, 4)
        assert made.old("select count(*) from safepoint.stash") == [(5,)]


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


def test_a_replay_beside_a_drain_takes_what_is_durable_and_the_next_one_the_rest(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower carries while the watch drains: more than the writer keeps in memory is in the file already."""
    sync = Spool.sync
    beside: list[int] = []

    def replayed(spool: Spool, *words: Any, **others: Any) -> None:
        beside.append(made.replay().transactions)
        sync(spool, *words, **others)

    with ground(database, tmp_path, SHOP, "select 1") as made:
        made.write("insert into customer (name) values ('first')")
        assert made.carry().transactions == 1
        row = "repeat(md5(n::text), 9) || {}"
        for number in range(30):
            mail = row.format(number)
            made.write(f"insert into customer (name, mail) select 'n', {mail} from generate_series(1, 300) n")
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "sync", replayed)
            made.drain()
        assert beside == [1] and made.replay().transactions == 31
        made.write("insert into customer (name) values ('last')")
        assert made.carry().transactions == 32
        assert made.old("select count(*) from customer") == made.new("select count(*) from customer")


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


def test_rows_that_the_migration_added_stay_behind_with_what_was_written_to_them(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create table grp (id serial primary key, name text unique, old_only int not null default 3);
    create table member (id serial primary key, grp_id int not null references grp deferrable initially deferred);
    insert into grp (name) values ('staff'), ('stale');
    """
    migration = "insert into grp (name) values ('editors'), ('authors'); delete from grp where name = 'stale'"
    with ground(database, tmp_path, before, migration) as made:
        trip, mapping = round_trip(made.twin, made.live, made.mapping()), made.mapping()
        assert doubtful(mapping, trip, Accepted(frozenset({"public.grp"}), frozenset({"public.grp"}))) == ()
        made.write("update grp set name = 'writers' where name = 'authors'")
        made.write("insert into member (grp_id) values (1), (3), (4)")
        made.write("insert into grp (name) values ('stale')")
        outcome = made.carry()
        assert made.old("select id, name from grp order by id") == [(1, "staff"), (2, "stale")]
        assert made.old("select grp_id from member order by id") == [(1,)]
        assert sorted((one.table, one.kind) for one in outcome.aside) == [
            ("public.grp", "conflict"),
            ("public.grp", "unique"),
            ("public.member", "foreign key"),
            ("public.member", "foreign key"),
        ]


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
        made.write("insert into purchase (customer_id, total) values (1, 1)")
        proven = made.mapping()
        made.write("alter table purchase drop body", "insert into customer (name) values ('y')")
        made.drain()
        with pytest.raises(Refused, match=r"columns of public\.purchase are not those"):
            replay(made.twin, made.live, made.spool, proven, launch_id=LAUNCH)
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
