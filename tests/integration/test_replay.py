"""The replay, case by case: what the old schema can hold is carried as it was, whatever its type and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_servers import drop_database
from psycopg import sql
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ground, lines, operations

from safepoint.django.operations import Operations, StateColumn, StateTable
from safepoint.errors import Interrupted, Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback import compaction, filling
from safepoint.wayback.catalogue import read_catalogue
from safepoint.wayback.mapping import WayBack
from safepoint.wayback.merging import left_sequences
from safepoint.wayback.replay import replay
from safepoint.wayback.roundtrip import Accepted, doubtful, round_trip
from safepoint.wayback.spool import Spool


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


@pytest.mark.parametrize("piece", [1, 2_000])
def test_large_values_that_were_not_touched_are_looked_up(
    any_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(filling, "_PIECE", piece)
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


def test_large_values_are_looked_up_by_any_key(database: Target, tmp_path: Path) -> None:
    schema = """
    create table "Odd %s" (
        "the ""key" text, day date, "body {0}" text, state text, primary key ("the ""key", day));
    alter table "Odd %s" alter "body {0}" set storage external;
    insert into "Odd %s" select k, '2026-02-28', repeat(k, 2000), 'new'
    from unnest(array['it''s', '100 %s', 'a\\\\b', '{0}', '"', 'NULL', '', E'\\n', '$1 :x']) k
    """
    # Of another type: what the twin has itself need not be looked up.
    retyped = """
    alter table "Odd %s" alter "body {0}" type varchar(99000);
    alter table "Odd %s" alter "body {0}" set storage external;
    update "Odd %s" set "body {0}" = "body {0}" || "body {0}"
    """
    with ground(database, tmp_path, schema, retyped) as made:
        made.write("update \"Odd %s\" set state = 'seen'")
        assert made.carry().put_aside == 0
        query = 'select * from "Odd %s" order by 1'
        assert made.old(query) == made.new(query)


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


def test_a_replay_beside_a_drain_takes_what_is_durable_and_the_next_one_the_rest(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower carries while the watch drains: more than the writer keeps in memory is in the file already."""
    sync = Spool.sync
    beside: list[int] = []

    def replayed(spool: Spool, *words: Any) -> None:
        beside.append(made.replay().transactions)
        sync(spool, *words)

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


def test_ids_that_nobody_committed_are_not_given_out_again_where_nothing_is_left_to_carry(
    database: Target, tmp_path: Path
) -> None:
    """Most is carried ahead; what was drawn since, and not committed, may stand in a mail or in another system."""
    with ground(database, tmp_path, SHOP, "select 1") as made:
        made.write("insert into customer (name) values ('x')")
        assert made.carry().sequences == {"public.customer_id_seq": 6}
        made.write("select nextval('customer_id_seq') from generate_series(1, 4)")
        outcome = made.carry()
        assert outcome.already and outcome.sequences == {"public.customer_id_seq": 10}
        assert made.old("select nextval('customer_id_seq')") == [(11,)]


def test_a_sequence_that_cannot_go_as_far_as_the_new_one_did_ends_at_its_last_number(
    database: Target, tmp_path: Path
) -> None:
    """A SmallAutoField became an AutoField: rows up to the smaller one's end are carried, and have their numbers."""
    before = "create table bill (id smallserial primary key); insert into bill values (default)"
    change = "alter table bill alter id type int; alter sequence bill_id_seq as int"
    with ground(database, tmp_path, before, change) as made:
        made.operations = operations(("column-altered", "bill", "bill", "id", None))
        made.write("select setval('bill_id_seq', 32765)", "insert into bill select from generate_series(1, 4)")
        outcome = made.carry()
        assert outcome.put_aside == 2 and outcome.sequences == {"public.bill_id_seq": 32767}
        with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            made.old("select nextval('bill_id_seq')")


def test_a_sequence_that_two_tables_had_together_goes_on_behind_both_of_theirs(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create table bill (id serial primary key);
    create table offer (id int primary key default nextval('bill_id_seq'));
    """
    change = "create sequence offer_id_seq; alter table offer alter id set default nextval('offer_id_seq')"
    with ground(database, tmp_path, before, change) as made:
        made.write("insert into bill select from generate_series(1, 7)", "insert into offer default values")
        assert made.carry().sequences == {"public.bill_id_seq": 7}
        made.write("insert into offer select from generate_series(1, 9)")
        assert made.carry().sequences == {"public.bill_id_seq": 10}


def test_a_sequence_that_only_code_asks_and_that_has_another_name_now_is_told(database: Target, tmp_path: Path) -> None:
    before = "create sequence letter_no; create sequence stays; create table gone (id serial, no int default 1)"
    change = "alter sequence letter_no rename to dispatch_no; drop table gone"
    with (
        ground(database, tmp_path, SHOP + before, change) as made,
        connect(made.twin) as old,
        connect(made.live) as new,
    ):
        assert left_sequences(old, new, read_catalogue(old)) == ("public.letter_no",)


def test_a_sequence_that_no_column_owns_is_found_again_by_the_default_that_names_it(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create schema "Odd one"; create sequence "Odd one"."Numbers";
    create table invoice (id int primary key default nextval('"Odd one"."Numbers"'), what text);
    insert into invoice (what) values ('a'), ('b');
    """
    change = """alter sequence "Odd one"."Numbers" rename to "Given out";
    alter sequence "Odd one"."Given out" set schema public"""
    with ground(database, tmp_path, before, change) as made:
        made.write("insert into invoice (what) values ('c'), ('d')")
        assert made.carry().sequences == {'"Odd one"."Numbers"': 4}
        assert made.old("insert into invoice (what) values ('e') returning id") == [(5,)]


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


TYPED = """
create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
create table flow (content_type_id int primary key references django_content_type deferrable initially deferred,
    what text);
insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item'), ('shop', 'mark');
insert into flow values (1, 'l'), (2, 'i');
"""


def test_rows_whose_key_is_a_content_type_are_carried_where_it_has_the_same_number(
    database: Target, tmp_path: Path
) -> None:
    migration = """
    update django_content_type set model = 'posting' where id = 1;
    insert into django_content_type values (9, 'shop', 'tag');
    """
    found = operations(("model-renamed", "line", "posting", "shop.posting", None))
    with ground(database, tmp_path, TYPED, migration, found) as made:
        assert doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping())) == ()
        made.write("update flow set what = 'p' where content_type_id = 1; delete from flow where content_type_id = 2")
        made.write("insert into flow values (3, 'm'), (9, 't')")
        outcome = made.carry()
        assert made.old("select * from flow order by 1") == [(1, "p"), (3, "m")]
        assert [(one.table, one.kind) for one in outcome.aside] == [("public.flow", "foreign key")]


def test_rows_whose_key_is_a_content_type_of_another_number_are_not_carried(database: Target, tmp_path: Path) -> None:
    migration = """
    delete from flow; delete from django_content_type;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'line'), (3, 'shop', 'mark');
    insert into flow values (2, 'l'), (1, 'i');
    """
    with ground(database, tmp_path, TYPED, migration) as made:
        told = doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping()))
        assert [one[:53] for one in told] == ["flow: 2 rows are missing after the migration, 2 are n"]
        made.write("insert into flow values (3, 'm')")
        made.carry()
        assert made.old("select * from flow order by 1") == [(1, "l"), (2, "i"), (3, "m")]


@pytest.mark.usefixtures("looking_up")
def test_content_types_that_no_constraint_leads_to_are_matched_by_what_the_models_say(
    database: Target, tmp_path: Path
) -> None:
    """`db_constraint = False`: an id of the new database would be that of another model in the old one, or of none."""
    before = """
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table note (id serial primary key, what text, content_type_id int not null);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    insert into note (what, content_type_id) values ('of nothing', 77);
    """
    change = """
    alter table note add more text; delete from django_content_type;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'line'), (3, 'shop', 'tag');
    """

    def column(references: str | None = None) -> StateColumn:
        return StateColumn("integer", False, references is None, False, references, None)

    states = {
        "django_content_type": StateTable("contenttypes.contenttype", {"id": column()}),
        "note": StateTable("shop.note", {"content_type_id": column("contenttypes.contenttype")}),
    }
    with ground(database, tmp_path, before, change, Operations((), (), states, states)) as made:
        made.write("insert into note (what, content_type_id) values ('i', 1), ('l', 2), ('t', 3), ('n', 88)")
        outcome = made.carry()
        assert made.old("select what, content_type_id from note order by id") == [
            ("of nothing", 77),
            ("i", 2),
            ("l", 1),
            ("n", 88),
        ]
        assert [one.reason for one in outcome.aside] == ["what content_type_id names is not there"]


def test_content_types_and_permissions_in_a_schema_that_only_the_application_searches_are_found(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create schema app; set search_path = app;
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table auth_permission (id serial primary key, codename text, content_type_id int not null
        references django_content_type deferrable initially deferred);
    create table granted (id serial primary key,
        permission_id int references auth_permission deferrable initially deferred,
        content_type_id int references django_content_type deferrable initially deferred);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    insert into auth_permission (codename, content_type_id) values ('add_line', 1), ('add_item', 2);
    insert into granted (permission_id, content_type_id) values (1, 2);
    reset search_path;
    """
    migration = """
    delete from app.granted; delete from app.auth_permission; delete from app.django_content_type;
    insert into app.django_content_type values (11, 'shop', 'item'), (12, 'shop', 'line');
    insert into app.auth_permission values (21, 'add_item', 11), (22, 'add_line', 12);
    insert into app.granted values (1, 22, 11);
    """
    with ground(database, tmp_path, before, migration) as made:
        # Both tables are numbered anew, as after a launch; what refers to them comes back as it was.
        assert {one.table: one.whole for one in round_trip(made.twin, made.live, made.mapping()).tables}["app.granted"]
        made.write("insert into app.granted values (7, 21, 12)")
        assert made.carry().put_aside == 0
        assert made.old("select * from app.granted order by id") == [(1, 1, 2), (7, 2, 1)]


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
        made.write("alter table purchase rename note to surprise", "insert into customer (name) values ('y')")
        with pytest.raises(Refused, match=r"columns of public\.purchase are not those"):
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
