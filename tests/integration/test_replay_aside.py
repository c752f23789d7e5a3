"""The replay of what the old schema cannot hold: put aside with its reason, and with what depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground, lines, operations, reasons

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay import holding, whereabouts
from safepoint.wayback.replay.manner import Policy


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
        assert (outcome.carried, outcome.partly, outcome.not_carried, outcome.stashed) == (0, 4, 0, 2)
        assert len(lines(outcome, "put_aside")) == 7 and len(lines(outcome, "transactions")) == 6
        assert lines(outcome, "put_aside")[0]["values"]["name"] == "x" * 21


def test_what_refers_to_a_new_row_whose_key_the_twin_gave_to_another_is_put_aside_with_it(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        with connect(made.twin) as worker:  # of the old release, before a rollback was turned round
            worker.execute("insert into customer (name) values ('left')")
        made.write(
            "insert into customer (name) values ('new')",
            "insert into purchase (customer_id, total) values (6, 1)",
            "insert into purchase_line (purchase_id, what) values (6, 'of new')",
        )
        made.write("update purchase set customer_id = 6 where id = 1")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("customer", "conflict", "6"),
            ("purchase", "foreign key", "1"),
            ("purchase", "foreign key", "6"),
            ("purchase_line", "foreign key", "6"),
        ]
        assert made.old(
            "select name, (select count(*) from purchase p where p.customer_id = c.id) from customer c where id = 6"
        ) == [("left", 0)]


MOVED = """
create table parent (id int primary key, what varchar(5));
create table child (id int primary key, parent_id int references parent on update cascade, what varchar(5));
insert into parent select n, 'p' || n from generate_series(1, 6) n;
insert into child values (1, 6, 'c1');
"""


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_row_that_got_another_key_is_carried_whole_or_stays_where_it_was(
    database: Target, tmp_path: Path, how: How
) -> None:
    """Half of it would be a row that is gone, or one that is there twice."""
    relax = "alter table parent alter what type text; alter table child alter what type text"
    with ground(database, tmp_path, MOVED, relax, how=how) as made:
        made.write("update parent set id = 10, what = 'too long' where id = 1")
        made.write("update parent set id = 99 where id = 2", "update parent set id = 2, what = 'too long' where id = 3")
        made.write("update parent set id = 3 where id = 99")
        made.write("update parent set id = 40 where id = 4", "insert into parent values (4, 'new')")
        made.write("update parent set id = 50, what = 'too long' where id = 5", "insert into parent values (5, 'new')")
        made.write("update parent set id = 60 where id = 6", "update child set what = 'too long'")
        outcome = made.carry()
        assert made.old("select id, what from parent order by id") == [
            *((number, f"p{number}") for number in (1, 2, 3)),
            (4, "new"),
            (5, "p5"),
            (6, "p6"),
            (40, "p4"),
        ]
        assert made.old("select parent_id, what from child") == [(6, "c1")]
        told = {one["key"]["id"] for one in lines(outcome, "put_aside") if one["relation"] == "public.parent"}
        assert told == {"1", "10", "2", "3", "5", "50", "6", "60"}


def test_a_value_too_long_for_an_index_and_one_that_a_mapper_cannot_give_keep_nothing_else_from_being_carried(
    any_database: Target, tmp_path: Path
) -> None:
    before = (
        SHOP
        + """
    create table word (id int primary key, what text); create index on word (what);
    create table town (id int primary key, name text, code text);
    insert into word values (1, 'a'); insert into town values (1, 'x', 'X');
    """
    )
    code = "(select upper(t.name) from unnest(string_to_array(names, ',')) t(name))"
    found = operations(
        ("column-removed", "purchase", "purchase", "legacy", None),
        ("column-removed", "town", "town", "name", None),
        ("column-removed", "town", "town", "code", None),
    )
    after = "drop index word_what_idx; alter table town add names text; update town set names = name; "
    after += "alter table town drop name, drop code;"
    mappers = {"town": {"code": code, "name": "names"}}
    with ground(any_database, tmp_path, before, RELAX + after, found, mappers) as made:
        long = "(select string_agg(md5(n::text), '') from generate_series(1, 300) n)"
        made.write("insert into word select 2, 'b' union select 3, 'c'", "insert into town values (2, 'y')")
        made.write(f"update word set what = {long} where id = 1", f"insert into word select 4, {long}")
        made.write("insert into town values (3, 'y,z')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("town", "value", "3"), ("word", "value", "1"), ("word", "value", "4")]
        said = {one.reason for one in outcome.aside}
        assert any(one.startswith("index row") for one in said) and any("more than one row" in one for one in said)
        assert made.old("select id, what from word order by 1") == [(1, "a"), (2, "b"), (3, "c")]
        assert made.old("select id, name, code from town order by 1") == [(1, "x", "X"), (2, "y", "Y")]


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_value_that_an_enum_in_a_key_did_not_have_puts_its_row_aside(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = """
    create type "Kind" as enum ('a', 'b');
    create table rate (shop int, kind "Kind", n int, primary key (shop, kind));
    insert into rate values (1, 'a', 1), (1, 'b', 1), (2, 'a', 1);
    """
    with ground(database, tmp_path, SHOP + before, "alter type \"Kind\" add value 'c'", how=how) as made:
        made.write(
            "insert into rate values (1, 'c', 2), (2, 'b', 2)", "update rate set n = 2 where (shop, kind) = (1, 'a')"
        )
        made.write("delete from rate where (shop, kind) = (1, 'b')")
        outcome = made.carry()
        assert [(one.kind, dict(one.key)) for one in outcome.aside] == [("value", {"shop": "1", "kind": "c"})]
        assert made.old("select shop, kind::text, n from rate order by 1, 2") == [(1, "a", 2), (2, "a", 1), (2, "b", 2)]


@pytest.mark.parametrize("how", ["logical", "triggers"])
@pytest.mark.parametrize("policy", ["row", "transaction"])
def test_a_row_that_got_another_key_stays_where_what_it_became_is_put_aside(
    database: Target, tmp_path: Path, how: How, policy: Policy
) -> None:
    before = """
    create table code (id int primary key, what varchar(5));
    create table used (id int primary key, code int references code on update cascade);
    insert into code select n, 'o' || n from generate_series(1, 6) n;
    insert into used values (1, 1), (2, 6);
    """
    after = "alter table code alter what type text"
    with ground(database, tmp_path, SHOP + before, RELAX + after, RELAXED, how=how) as made:
        made.write("update code set id = 11, what = 'too long for it' where id = 1")
        made.write("update code set id = 12 where id = 2")
        made.write("update code set id = 22, what = 'too long for it' where id = 12")  # twice
        made.write("update code set id = 13 where id = 3", "update code set id = 14 where id = 4")
        made.write("delete from code where id = 14")
        made.write(
            "update code set id = 15, what = 'too long for it' where id = 5", "insert into code values (5, 'new')"
        )
        made.write("update code set id = 16 where id = 6")
        outcome = made.carry(policy=policy)
        there = dict(made.old("select id, what from code"))
        # Of the second row one change was whole, if rows count: it is a transaction that is put aside otherwise.
        two = {2: "o2"} if policy == "row" else {12: "o2"}
        assert there == {1: "o1", 5: "o5", 13: "o3", 16: "o6", **two}
        assert made.old("select id, code from used order by 1") == [(1, 1), (2, 16)]
        assert {"11", "22", "15"} <= {str(one.key["id"]) for one in outcome.aside}


@pytest.mark.parametrize("keyed", [True, False], ids=["by-key", "without-a-key"])
def test_a_few_values_that_the_old_types_cannot_hold_are_found_in_time_that_does_not_multiply(
    database: Target, tmp_path: Path, keyed: bool
) -> None:
    before = "create table price (n int, total numeric(8, 2));" + (
        "alter table price add primary key (n)" if keyed else ""
    )
    with ground(database, tmp_path, before, "alter table price alter total type numeric(14, 2)") as made:
        made.write(
            "insert into price select n, case n % 500 when 7 then 1e7 else 1 end from generate_series(1, 20000) n"
        )
        outcome = made.carry()
        assert (outcome.put_aside, made.old("select count(*) from price")) == (40, [(19960,)])
        assert {one["reason"] for one in lines(outcome, "put_aside")} == {"numeric field overflow"}
        # Some ten times, however slow the machine; 140 times where each of them was looked for among all rows.
        assert outcome.phases["compact"] < 60 * outcome.phases["stage"]


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


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_rows_without_a_key_that_the_old_types_cannot_hold_are_put_aside_and_the_others_come(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = "create table event (n int2, tag varchar(3), code char(2)); insert into event values (1, 'one', 'a')"
    wider = "alter table event alter n type int8, alter tag type text, alter code type char(9)"
    with ground(database, tmp_path, before, wider, how=how) as made:
        made.write("insert into event (n, tag) values (70000, 'big'), (2, 'long'), (3, 'ok'), (3, 'ok')")
        made.write("insert into event values (4, 'x', 'abcd')")
        made.write(
            "insert into event (n, tag) values (80000, 'gone'), (5, 'gone')", "delete from event where tag = 'gone'"
        )
        made.write("update event set n = 90000 where n = 1")
        outcome = made.carry()
        told = [(line["action"], line["kind"], line["values"]["n"]) for line in lines(outcome, "put_aside")]
        # What was to become another row, and cannot, stays as it was.
        assert sorted(told) == [
            ("delete", "value", "1"),
            *(("insert", "value", n) for n in ("2", "4", "70000", "90000")),
        ]
        assert made.old("select n, tag from event order by n") == [(1, "one"), (3, "ok"), (3, "ok")]


def test_the_key_of_what_is_put_aside_is_written_as_in_the_log(database: Target, tmp_path: Path) -> None:
    before = "create table odd (a bool, b char(4), c inet, n int check (n < 10), primary key (a, b, c))"
    with ground(database, tmp_path, before, "alter table odd drop constraint odd_n_check") as made:
        made.write("insert into odd values (true, 'x', '10.0.0.1', 10)")
        (line,) = lines(made.carry(), "put_aside")
        assert line["key"] == {"a": "t", "b": "x   ", "c": "10.0.0.1"}


def test_rows_that_the_old_types_do_not_hold_are_found_one_by_one_without_reading_all_for_each(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 of them closed the site for a minute, and twice as many four times as long."""
    read: list[int] = []
    classify = whereabouts.classify

    def noted(connection: Connection, *words: Any) -> None:
        query = "select seq_tup_read from pg_stat_xact_all_tables where relname = 'sp_stage_0'"
        read.append(connection.execute(query).fetchone()[0])  # type: ignore[index]
        classify(connection, *words)

    monkeypatch.setattr(whereabouts, "classify", noted)
    before = "create table reading (id int primary key, value smallint)"
    with ground(database, tmp_path, before, "alter table reading alter value type int") as made:
        made.write("insert into reading select n, 99999 from generate_series(1, 1000) n")
        made.write("insert into reading select n, 1 from generate_series(1001, 10000) n")
        outcome = made.carry()
        assert (outcome.put_aside, made.old("select count(*) from reading")) == (1000, [(9000,)])
        assert read[0] < 50 * 10_000


def test_a_chain_of_new_rows_is_put_aside_at_once_where_its_first_is(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger in which each entry names the one before it: row after row, each took a round of all questions."""
    asked: list[str] = []
    run = holding.run

    def noted(connection: Connection, statement: str) -> int:
        asked.append(statement)
        return run(connection, statement)

    monkeypatch.setattr(holding, "run", noted)
    before = """
    create table entry (id int primary key, previous int references entry, what varchar(5));
    insert into entry select n, nullif(n - 1, 0), 'old' from generate_series(1, 10) n;
    """
    with ground(database, tmp_path, before, "alter table entry alter what type text") as made:
        made.write("insert into entry values (11, 10, 'too long'), (500, 10, 'apart')")
        made.write("insert into entry select n, n - 1, 'new' from generate_series(12, 200) n")
        made.write("update entry set previous = 150 where id = 3", "insert into entry values (501, 500, 'apart')")
        outcome = made.carry()
        assert made.old("select id, previous from entry where id = 3 or id > 10 order by id") == [
            (3, 2),
            (500, 10),
            (501, 500),
        ]
        assert outcome.put_aside == 191 and len(asked) < 50
        assert {one["reason"] for one in lines(outcome, "put_aside") if one["key"]["id"] in ("12", "200", "3")} == {
            "the row of entry that previous refers to is not there"
        }


DOCUMENTS = """
create table doc (id int primary key, what varchar(5), state text, body text, other text);
alter table doc alter body set storage external, alter other set storage external;
insert into doc select n, 'w', 'new', repeat('a' || n, 3000), repeat('o' || n, 3000) from generate_series(1, 9) n
"""


@pytest.mark.parametrize("policy", ["row", "transaction"])
def test_a_large_value_that_was_left_alone_is_what_it_was_then(
    any_database: Target, tmp_path: Path, policy: Policy
) -> None:
    """The migrated database is further already: there it may be a value of what is put aside afterwards."""
    relax = "alter table doc alter what type text; alter table doc rename other to more"
    renamed = operations(("column-renamed", "doc", "doc", "other", "more"))
    with ground(any_database, tmp_path, DOCUMENTS, relax, renamed) as made:
        made.write("update doc set state = 'seen' where id < 4")
        made.write("update doc set body = 'short' where id = 2", "update doc set state = 'twice' where id = 2")
        made.write("insert into doc values (10, 'w', 'new', repeat('c', 5000), repeat('d', 5000))")
        made.write("update doc set state = 'seen' where id = 10")
        made.write("delete from doc where id = 4", "insert into doc values (4, 'w', 'again', repeat('e', 5000), 'f')")
        made.write("update doc set state = 'seen' where id = 4", "update doc set more = repeat('g', 5000) where id = 5")
        made.write("update doc set state = 'seen' where id = 5", "delete from doc where id = 6")
        made.drain()
        then = made.new("select * from doc order by id")
        made.write("update doc set what = 'too long for it', body = repeat('b', 6000), more = repeat('b', 6000)")
        outcome = made.replay(policy=policy)
        assert (outcome.put_aside, made.old("select * from doc order by id")) == (0, then)
        assert made.carry(policy=policy).put_aside == len(then)
        # A row of which something was put aside is not told apart any more: its next state is looked up as a whole.
        assert made.old("select * from doc order by id") == then
