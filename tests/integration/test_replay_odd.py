"""Carrying back where a table's rows are not only its own, where rules act on them, and where equal is not the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from psycopg import sql
from replay_ground import BOTH, LAUNCH, ground, lines, operations, whole

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.trial.roundtrip import doubtful, round_trip


@BOTH
def test_a_key_that_is_computed_names_no_row(any_database: Target, tmp_path: Path, how: How) -> None:
    """The log of most versions does not have it; the old database computes its own."""
    before = """
    create table sum (x int not null, what text, y int generated always as (x + 1) stored primary key);
    create table child (y int primary key references sum);
    insert into sum values (1, 'a'), (2, 'b'), (3, 'c');
    """
    with ground(any_database, tmp_path, before, "alter table sum alter what type varchar(9)", how=how) as made:
        made.write(
            "update sum set what = 'n' where x = 1", "insert into sum values (5, 'd')", "delete from sum where x = 2"
        )
        made.write("update sum set x = 8 where y = 4", "insert into child values (6)")
        whole(made, made.carry())
        # One that is made after the launch, too: it is in no mapping.
        proven = made.mapping()
        made.write("create table since (x int, y int generated always as (x + 1) stored primary key)")
        made.write("insert into since values (1), (2)", "update since set x = 3 where x = 1")
        made.write("insert into child values (9)")
        made.drain()
        replay(made.twin, made.live, made.spool, proven, launch_id=LAUNCH)
        assert made.old("select y from child order by 1") == [(6,), (9,)]


@BOTH
def test_rows_of_a_table_without_columns_are_counted(database: Target, tmp_path: Path, how: How) -> None:
    before = """
    create table bare (); create table base ();
    create table computed (one int generated always as (1) stored);
    insert into bare select from generate_series(1, 3); insert into computed select from generate_series(1, 3);
    create table other (id int primary key);
    """
    with ground(database, tmp_path, before, "select 1", how=how) as made:
        made.write("insert into bare default values", "insert into bare default values", "insert into other values (1)")
        made.write("delete from bare where ctid in (select ctid from bare limit 1)", "insert into base default values")
        made.write("insert into computed default values", "insert into computed default values")
        made.write("delete from computed where ctid in (select ctid from computed limit 1)")
        whole(made, made.carry())
        for name, rows in (("bare", 4), ("base", 1), ("computed", 4), ("other", 1)):
            assert made.old(f"select count(*) from {name}") == made.new(f"select count(*) from {name}") == [(rows,)]
        made.write("delete from bare", "delete from computed")
        whole(made, made.carry())
        assert made.old("select (select count(*) from bare), (select count(*) from computed)") == [(0, 0)]


def test_a_large_value_whose_type_has_a_cast_to_text_of_its_own_is_looked_up_as_it_is(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create type doc as (kind text, body text);
    create function shown(doc) returns text language sql immutable as $$ select 'a ' || ($1).kind $$;
    create cast (doc as text) with function shown(doc);
    create table t (id int primary key, n int, d doc);
    alter table t alter d set storage external;
    insert into t select n, n, row('letter', repeat('b', 8000))::doc from generate_series(1, 2) n;
    """
    with ground(database, tmp_path, before, "alter table t add w int") as made:
        made.write("update t set n = 7")
        whole(made, made.carry())
        assert made.old("select n, (d).kind, length((d).body) from t") == [(7, "letter", 8000)] * 2


@BOTH
def test_composite_values_of_nothing_are_not_null(database: Target, tmp_path: Path, how: How) -> None:
    before = """
    create type pair as (a int, b text);
    create table keyed (id int primary key, p pair not null, q pair unique);
    create table keyless (p pair);
    create table lone (n int);
    insert into keyless values ('(,)'), (null), ('(1,)');
    insert into lone values (null);
    """
    with ground(database, tmp_path, before, "alter table keyed add t text", how=how) as made:
        made.write("insert into keyed values (1, '(,)', '(,)'), (2, '(1,)', null), (3, '(,x)', '(1,)')")
        made.write("delete from keyless where p is not distinct from null", "insert into keyless values ('(1,)')")
        made.write("insert into lone values (null), (7)", "update lone set n = 8 where n = 7")
        whole(made, made.carry())
        assert made.old("select p::text, count(*) from keyless group by p order by 1") == [("(,)", 1), ("(1,)", 2)]
        assert sorted(map(str, made.old("select n from lone"))) == ["(8,)", "(None,)", "(None,)"]


@BOTH
def test_a_deferrable_key_names_no_row_for_several_may_have_it_for_a_while(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = """
    create table later (id int primary key deferrable initially deferred, what text);
    insert into later values (1, 'one'), (2, 'two');
    """
    with ground(database, tmp_path, before, "alter table later add t text", how=how) as made:
        made.write(
            "insert into later values (1, 'again'), (3, 'three')",
            "delete from later where what = 'one'",
            "update later set id = 2 where id = 3",
            "update later set id = 3 where what = 'two'",
        )
        whole(made, made.carry())
        assert made.old("select id, what from later order by id") == [(1, "again"), (2, "three"), (3, "two")]


@pytest.mark.skipif(not has_postgres(15), reason="needs a PostgreSQL with ICU")
@BOTH
def test_texts_that_are_equal_for_the_database_name_one_row(servers: Servers, tmp_path: Path, how: How) -> None:
    database = fresh_database(servers(15))
    before = """
    create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    create table word (w text collate loose primary key, n int);
    create table said (w text collate loose);
    insert into word values ('Ant', 1), ('bee', 2), ('cow', 3);
    insert into said values ('Ant'), ('ant');
    """
    try:
        with ground(database, tmp_path, before, "alter table word add t text", how=how) as made:
            made.write("update word set w = 'ant' where w = 'ANT'", "delete from word where w = 'BEE'")
            made.write("insert into word values ('BEE', 5)", "update word set n = 9 where w = 'Cow'")
            made.write("""delete from said where w collate "C" = 'Ant'""", "insert into said values ('ANT')")
            whole(made, made.carry())
            assert made.old('select w, n from word order by w collate "C"') == [("BEE", 5), ("ant", 1), ("cow", 9)]
            assert made.old('select w from said order by w collate "C"') == [("ANT",), ("ant",)]
    finally:
        drop_database(database)


@BOTH
def test_a_row_is_followed_through_changes_of_a_key_that_a_cast_would_write_otherwise(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = """
    create table moved (a bool, b char(4), c inet, d interval, gone text, primary key (a, b, c, d));
    insert into moved values (true, 'x', '10.0.0.1', '1 day', 'kept'), (false, 'y', '::1', '0', 'too');
    """
    done = operations(("column-removed", "moved", "moved", "gone", None))
    with ground(database, tmp_path, before, "alter table moved drop gone", done, how=how) as made:
        made.write("update moved set a = false, b = 'z'")
        made.write("update moved set a = true, d = '25 hours' where c = '10.0.0.1'")
        assert made.carry().put_aside == 0
        assert made.old("select gone from moved order by gone") == [("kept",), ("too",)]


def test_only_the_last_values_of_a_row_are_its_stash_however_its_key_was_written(
    database: Target, tmp_path: Path
) -> None:
    before = "create table priced (price numeric primary key, what text)"
    with ground(database, tmp_path, before, "alter table priced add more text") as made:
        made.write("insert into priced values (1.0, 'w', 'first')")
        made.carry()
        made.write("update priced set price = 1.00, more = 'last'")
        stash = lines(made.carry(), "stash")
        assert [(line["key"], line["values"]) for line in stash] == [({"price": "1.00"}, {"more": "last"})]


@BOTH
def test_rules_and_triggers_that_always_act_do_not_act_on_what_is_carried(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = """
    create table note (id int primary key, what text) partition by list (id);
    create table note_1 partition of note for values in (1, 2, 3);
    create table note_2 partition of note for values in (4, 5);
    create table log (id serial primary key, what text);
    create function tell() returns trigger language plpgsql as
        $$ begin insert into log (what) values ('trigger ' || new.what); return new; end $$;
    create trigger tell after insert on note_1 for each row execute function tell();
    alter table note_1 enable always trigger tell;
    create trigger tell_all after insert on note for each row execute function tell();
    alter table note enable always trigger tell_all;
    alter table note_2 disable trigger tell_all;
    create table paper (id int primary key, what text);
    create rule tell as on insert to paper do also insert into log (what) values ('rule ' || new.what);
    create rule tell_changes as on update to paper do also insert into log (what) values ('rule ' || new.what);
    alter table paper enable always rule tell;
    insert into paper values (1, 'a'), (2, 'b');
    """
    with ground(database, tmp_path, before, "alter table paper add column fresh int", how=how) as made:
        made.write("insert into note values (1, 'n'), (2, 'n'), (4, 'n')", "insert into paper values (3, 'c')")
        made.write("update paper set what = 'bb' where id = 2", "delete from paper where id = 1")
        whole(made, made.carry())
        acting = "select array_agg(ev_enabled::text order by rulename) from pg_rewrite where rulename like 'tell%'"
        assert made.old(acting) == [(["A", "O"],)]
        assert made.old("select tgenabled::text from pg_trigger where tgname = 'tell'") == [("A",)]
        # Its copy on the second partition was switched off by somebody, and still is.
        copies = "select tgrelid::regclass::text, tgenabled::text from pg_trigger where tgname = 'tell_all' order by 1"
        assert made.old(copies) == [("note", "A"), ("note_1", "A"), ("note_2", "D")]


KEYS = """
create table num (id numeric primary key, v int);
insert into num values (1.0, 1), (2.0, 2), (3.00, 3), ('NaN', 4), ('Infinity', 5);
create table span (id interval primary key, v int);
insert into span values ('1 day', 1), ('2 days', 2), ('1 mon', 3);
create table fl (id float8 primary key, v int);
insert into fl values (0, 1), ('NaN', 2), (1e300, 3), (0.1, 4);
create table ch (id char(5) primary key, v int);
insert into ch values ('a', 1), ('b', 2);
create table ts (id timestamptz, d date, v int, primary key (id, d));
insert into ts values ('2026-01-01', '2026-01-01', 1), ('infinity', '-infinity', 2);
create table js (id jsonb primary key, v int);
insert into js values ('{"a": 1.0}', 1), ('[1]', 2);
create table ar (id text[] primary key, v int);
insert into ar values ('{a,NULL,"x,y"}', 1), ('{}', 2);
create type pt as (x int, y text);
create table comp (id pt primary key, v int);
insert into comp values ('(1,"a b")', 1), ('(2,)', 2);
"""


@BOTH
def test_a_key_that_is_equal_and_written_otherwise_comes_back_as_it_is_written(
    database: Target, tmp_path: Path, how: How
) -> None:
    migration = " ".join(
        f"alter table {table} add w int;" for table in ("num", "span", "fl", "ch", "ts", "js", "ar", "comp")
    )
    with ground(database, tmp_path, KEYS, migration, how=how) as made:
        made.write("update num set id = 1.00, v = 10 where id = 1", "update num set v = 20 where id = 2")
        made.write("delete from num where id = 3", "insert into num values (3, 33)")
        made.write("update num set v = 44 where id = 'NaN'", "update num set v = 55 where id = 'Infinity'")
        made.write("update span set id = '24:00:00', v = 10 where id = '1 day'", "delete from span where v = 2")
        made.write("insert into span values ('2 days', 22)", "update span set v = 33 where id = '30 days'")
        made.write("update fl set id = '-0', v = 9 where id = 0", "update fl set v = 8 where id = 'NaN'")
        made.write(
            "update ch set v = 10 where id = 'a'", "delete from ch where id = 'b'", "insert into ch values ('b', 5)"
        )
        made.write(
            "update ts set v = 10", "insert into ts values ('2026-07-01 12:00:00.123456+02', '0001-01-01 BC', 5)"
        )
        made.write("""update js set id = '{"a": 1.00}', v = 10 where id = '{"a": 1}'""")
        made.write("update ar set v = v + 1", "insert into ar values ('{{1,2},{3,4}}', 5)")
        made.write(
            "update comp set v = v + 1", "delete from comp where id = '(2,)'::pt", "insert into comp values ('(2,)', 7)"
        )
        whole(made, made.carry())


@BOTH
def test_values_travel_whatever_the_databases_settings_make_of_their_text(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = """
    create table t (id int primary key, a text[], x xml, m money, i interval, f float8, b bytea, at timestamptz,
        d date);
    insert into t values (1, '{a,NULL,"NULL"}', '<a/>', 12.5, '1 mon 2 days', 0.1, '\\x00ff', now(), now());
    """
    odd = {
        "array_nulls": "off",
        "xmloption": "document",
        "datestyle": "German, DMY",
        "intervalstyle": "sql_standard",
        "extra_float_digits": "-5",
        "bytea_output": "escape",
        "timezone": "Asia/Kathmandu",
        "row_security": "off",
        "client_encoding": "LATIN1",
        "transform_null_equals": "on",
        "quote_all_identifiers": "on",
        "standard_conforming_strings": "off",
        "default_transaction_isolation": "serializable",
        "default_transaction_deferrable": "on",
    }
    with ground(database, tmp_path, before, "alter table t add w int", how=how) as made:
        for name, value in odd.items():
            for one in (made.live, made.twin):
                made.write(f"alter database {one.dbname} set {name} = '{value}'")
        made.write(
            "insert into t select 2, array[null, 'NULL', 'naïve'], xmlparse(content 'a<b/>c'), 1234567.89, "
            "'-1 mon +1 day', 0.1::float8 + 0.2, '\\xdeadbeef', '2026-03-29 02:30:00.123456+02', '2026-02-01'",
            "update t set a = array[null]::text[], m = -0.01, i = '1 day -00:00:01' where id = 1",
        )
        whole(made, made.carry())
        assert made.old("select a, x::text, m::numeric from t where id = 2") == made.new(
            "select a, x::text, m::numeric from t where id = 2"
        )
        # By the server's own comparison: whoever reads both sides rounded finds them equal.
        exact = "select f = 0.1::float8 + 0.2, b, at = '2026-03-29T00:30:00.123456Z', i = '-1 mon +1 day' from t"
        assert made.old(f"{exact} where id = 2") == [(True, b"\xde\xad\xbe\xef", True, True)]


@BOTH
@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "SQL_ASCII"])
def test_text_travels_between_databases_of_any_encoding(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How, encoding: str
) -> None:
    before = """
    create table t (id int primary key, what text unique, body text);
    alter table t alter body set storage external;
    insert into t values (1, 'Müller', repeat('groß', 2000)), (2, 'gone', '');
    """
    database = server.target.on(f"encoded_{os.getpid()}")
    with connect(server.target) as connection:
        made_as = f"template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        connection.execute(sql.SQL(f"create database {database.dbname} {made_as}"))
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    try:
        with ground(database, tmp_path, before, "alter table t add note text", how=how) as made:
            made.write("insert into t values (3, 'naïve', 'Überweisung', 'Größe')")
            made.write("update t set what = 'Möller' where id = 1", "delete from t where id = 2")
            outcome = made.carry()
            whole(made, outcome)
            assert made.old("select id, what, body from t order by id") == [
                (1, "Möller", "groß" * 2000),
                (3, "naïve", "Überweisung"),
            ]
            assert [one["values"]["note"] for one in lines(outcome, "stash") if one["key"]["id"] == "3"] == ["Größe"]
    finally:
        drop_database(database)


def test_a_key_that_is_as_long_as_an_index_takes_may_be_changed(database: Target, tmp_path: Path) -> None:
    """As text, which has two digits for each byte of it, it is longer than that."""
    before = """
    create table file (digest bytea primary key, name text);
    insert into file select string_agg(sha512((n || name)::bytea), ''), name
        from generate_series(1, 40) n, unnest(array['a', 'b', 'c']) name group by name;
    """
    with ground(database, tmp_path, before, "alter table file add size int") as made:
        made.write("update file set digest = substr(digest, 2) where name = 'a'")
        made.write("update file set digest = substr(digest, 3) where name = 'a'", "delete from file where name = 'b'")
        assert made.carry().put_aside == 0
        rows = "select digest, name from file order by name"
        assert made.old(rows) == made.new(rows) and len(made.old(rows)) == 2


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_type_that_the_launch_brings_is_text_to_the_twin(database: Target, tmp_path: Path, how: How) -> None:
    """Of an extension that it installs, an enum or a domain that it makes."""
    before = """
    create table person (id int primary key, mail varchar(9) unique, mood char(4), age smallint, on_list boolean);
    insert into person select n, 'M' || n || '@x', 'low', 20 + n, true from generate_series(1, 4) n;
    """
    change = """
    create extension citext; create type mood as enum ('low', 'high', 'quite high'); create domain years as int;
    create domain flag as text;
    alter table person alter mail type citext, alter mood type mood using mood::text::mood, alter age type years,
        alter on_list type flag using on_list::text;
    """
    with ground(database, tmp_path, before, change, how=how) as made:
        assert doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping())) == ()
        made.write("update person set mood = 'high' where id = 1", "update person set mail = 'new@x' where id = 2")
        made.write("insert into person values (5, 'M5@x', 'high', 99, 'false')")
        made.write("update person set mail = 'far.too.long@x' where id = 3")
        made.write("update person set mood = 'quite high' where id = 4")
        made.write("insert into person values (6, 'M6@x', 'low', 99999, 'true')")
        outcome = made.carry()
        assert made.old("select id, mail, mood, age, on_list from person order by id") == [
            (1, "M1@x", "high", 21, True),
            (2, "new@x", "low ", 22, True),
            (3, "M3@x", "low ", 23, True),
            (4, "M4@x", "low ", 24, True),
            (5, "M5@x", "high", 99, False),
        ]
        assert sorted((one.key["id"], one.kind) for one in outcome.aside) == [
            ("3", "value"),
            ("4", "value"),
            ("6", "value"),
        ]


@pytest.mark.timeout(40)
def test_a_standby_that_no_commit_waits_for_holds_no_replay_up(servers: Servers, tmp_path: Path) -> None:
    """It is away, and so that the application can go on, whoever runs the server set synchronous_commit to local."""
    settings = {"wal_level": "logical", "synchronous_standby_names": "away", "synchronous_commit": "local"}
    with Server.create(tmp_path / "pg", servers(17).installation, password="only-for-tests", settings=settings) as busy:
        target = fresh_database(busy)
        with ground(target, tmp_path, "create table one (id int primary key)", "select 1") as made:
            made.write("insert into one values (1)")
            assert made.carry().transactions == 1
            assert made.old("select id from one") == [(1,)]
