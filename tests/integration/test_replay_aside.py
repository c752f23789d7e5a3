"""The replay of what the old schema cannot hold: put aside with its reason, and with what depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from replay_ground import RELAX, RELAXED, SHOP, ground, lines, operations

from safepoint.errors import SafepointError
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback import applying, holding, whereabouts
from safepoint.wayback.capture import How
from safepoint.wayback.manner import Policy
from safepoint.wayback.outcome import Outcome


def reasons(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(one.table.partition(".")[2], one.kind, str(one.key.get("id"))) for one in outcome.aside]


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


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_what_builds_on_a_transaction_that_a_constraint_trigger_keeps_whole_is_put_aside_too(
    database: Target, tmp_path: Path, how: How
) -> None:
    """A later change of the same row has the earlier one's values in it: carried, it would bring half of a booking."""
    books = """
    create table account (id int primary key, balance int not null, note text);
    create table booking (id int primary key, label varchar(5));
    insert into account values (1, 0, 'a'), (2, 0, 'b'), (3, 0, 'c');
    create function balanced() returns trigger language plpgsql as $$ begin
        if (select sum(balance) from account) <> 0 then raise 'the books do not balance'; end if; return null;
    end $$;
    create constraint trigger balance after insert or update on account deferrable initially deferred
        for each row execute function balanced();
    """
    change = "alter table booking alter label type text; create table fresh (id int primary key, what text)"
    with ground(database, tmp_path, books, change, how=how) as made:
        made.write(
            "update account set balance = balance - 100 where id = 1",
            "update account set balance = balance + 100 where id = 2",
            "insert into booking values (1, 'too long')",
            "insert into fresh values (1, 'with the booking')",
        )
        made.write("update account set note = 'later' where id = 1")
        made.write("update fresh set what = 'later' where id = 1")
        made.write("insert into fresh values (2, 'of another')")
        made.write("update account set note = 'of another row' where id = 3")
        outcome = made.carry()
        assert made.old("select id, balance, note from account order by id") == [
            (1, 0, "a"),
            (2, 0, "b"),
            (3, 0, "of another row"),
        ]
        assert (outcome.carried, outcome.stashed, outcome.partly, outcome.not_carried) == (1, 1, 0, 3)
        assert [one["key"] for one in lines(outcome, "stash")] == [{"id": "2"}]


def test_a_row_that_every_transaction_changes_keeps_nobody_waiting_where_the_first_is_put_aside(
    database: Target, tmp_path: Path
) -> None:
    """A counter, say: all of them follow the first, each once. Pair by pair it took minutes, with the site closed."""
    hot = """
    create procedure hot() language plpgsql as $$ begin
        for n in 1..6000 loop update customer set mail = n::text where id = 1; commit; end loop;
    end $$
    """
    with ground(database, tmp_path, SHOP + hot, RELAX, RELAXED) as made:
        made.write("update customer set name = 'lost' where id = 1", "update purchase set total = -1 where id = 1")
        with connect(made.live) as connection:
            connection.execute("call hot()")
        outcome = made.carry(policy="transaction")
        assert outcome.not_carried == 6001 and outcome.seconds < 10
        assert made.old("select name, mail from customer where id = 1") == [("c1", "c1@x")]


@pytest.mark.parametrize("policy", ["row", "transaction"])
def test_a_large_value_of_a_transaction_that_is_put_aside_comes_with_no_other_ones_row(
    database: Target, tmp_path: Path, policy: Policy
) -> None:
    """It stands in the migrated database, where values are looked up that an UPDATE left alone."""
    guard = """
    create function balanced() returns trigger language plpgsql as $$ begin return null; end $$;
    create constraint trigger balance after insert or update on purchase deferrable initially deferred
        for each row execute function balanced();
    """
    relax = RELAX + "alter table coupon add body text; alter table coupon alter body set storage external"
    with ground(database, tmp_path, SHOP + guard, relax, RELAXED) as made:
        made.write("insert into coupon (code, body) select 'a', repeat('b', 8000) from generate_series(1, 2)")
        made.write("update coupon set code = 'b'")
        made.write("update purchase set total = 9 where id = 1")
        made.write("update purchase set total = 9 where id = 2")
        made.write("delete from purchase_line where purchase_id = 5", "update purchase set id = 50 where id = 5")
        made.write(
            "update purchase set total = -1 where id = 3",
            "update purchase set body = repeat('not to be carried', 1000) where id in (1, 50)",
            "update purchase set total = 10 where id = 2",
            "update coupon set body = repeat('not to be carried', 1000) where id = 1",
            "update coupon set code = 'c' where id = 2",
        )
        outcome = made.carry(policy=policy)
        # What the twin has itself need not be looked up; under another key nobody knows it any more.
        assert made.old("select id, total::int, left(body, 2) from purchase where id <> 4 order by id") == [
            (1, 9, "b1"),
            (2, 9, "b2"),
            (3, 3, "b3"),
            (5, 5, "b5"),
        ]
        aside = {one["reason"] for one in lines(outcome, "put_aside") if one["key"] == {"id": "50"}}
        assert any("is of a transaction that was put aside" in reason for reason in aside), aside
        assert outcome.not_carried + outcome.partly == 2
        stash = {one["key"]["id"]: one["values"] for one in lines(outcome, "stash") if "coupon" in one["relation"]}
        assert stash == {
            "1": {"id": "1", "code": "b", "body": None},
            "2": {"id": "2", "code": "b", "body": "b" * 8000},
        }


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


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        (
            "alter table form add constraint ruled check ((data ->> 'n')::int > 0)",
            "alter table form drop constraint ruled",
        ),
        ("create unique index ruled on form (((data ->> 'n')::int))", "drop index ruled"),
        ("create unique index ruled on form (id) where (data ->> 'n')::int > 0", "drop index ruled"),
    ],
    ids=["check", "unique", "partial"],
)
def test_a_rule_that_cannot_be_worked_out_for_a_row_puts_that_one_aside(
    database: Target, tmp_path: Path, rule: str, dropped: str
) -> None:
    """The release drops it: so a value may be there that its expression has no answer for."""
    before = "create table form (id int primary key, data jsonb); insert into form values (1, '{\"n\": 1}');"
    with ground(database, tmp_path, SHOP + before + rule, f"{RELAX}{dropped}", RELAXED) as made:
        made.write("""insert into form values (2, '{"n": "two"}'), (3, '{"n": 3}')""")
        made.write(
            """update form set data = '{"n": "one"}' where id = 1""", "insert into form values (4, '{\"n\": 4}')"
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("form", "value", "1"), ("form", "value", "2")]
        assert all(one.reason.startswith("invalid input syntax for type integer") for one in outcome.aside)
        assert made.old("select id, data ->> 'n' from form order by 1") == [(1, "1"), (3, "3"), (4, "4")]


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


def test_a_row_that_every_transaction_changes_holds_nobody_up_where_one_of_them_is_put_aside(
    database: Target, tmp_path: Path
) -> None:
    before = SHOP + "create table counter (id int primary key, first int); insert into counter values (1, 0), (2, 0);"
    with ground(database, tmp_path, before, RELAX, RELAXED) as made:
        made.write("update counter set first = first + 1")
        made.write("update purchase set total = -1 where id = 1", "update counter set first = first + 1 where id = 1")
        with connect(made.live) as connection:
            connection.execute(
                "do $$ begin for n in 1..8000 loop update counter set first = first + 1 where id = 1; commit; "
                "end loop; end $$"
            )
        made.write("update counter set first = first + 1 where id = 2")
        outcome = made.carry(policy="transaction")
        assert (outcome.transactions, outcome.carried, outcome.not_carried) == (8003, 2, 8001)
        assert made.old("select id, first from counter order by 1") == [(1, 1), (2, 2)]
        # Some five times, however slow the machine; a hundred times where all pairs of them were looked at.
        assert outcome.seconds < 50 * outcome.phases["stage"]


def test_large_values_that_were_left_alone_hold_nobody_up_where_a_transaction_is_put_aside(
    database: Target, tmp_path: Path
) -> None:
    more = "create table doc (id int primary key, n int, body text); alter table doc alter body set storage external;"
    with ground(database, tmp_path, SHOP, RELAX + more, RELAXED) as made:
        made.write("insert into doc select n, 0, repeat('b' || n, 1500) from generate_series(1, 8000) n")
        for _ in range(3):
            made.write("update doc set n = n + 1")
        made.write("update purchase set total = -1 where id = 1", "update doc set n = 9, body = '' where id <= 4000")
        outcome = made.carry(policy="transaction")
        assert (outcome.stashed, outcome.not_carried) == (4, 1)
        found = [one["values"] for one in lines(outcome, "stash") if one["relation"] == "public.doc"]
        assert len(found) == 8000 and {one["n"] for one in found} == {"3"}
        # What was overwritten by the one that is put aside nobody knows any more.
        assert sum(one["body"] is None for one in found) == 4000
        # Some twice, however slow the machine; 60 times where each of them was held against all that followed.
        assert outcome.phases["account"] < 25 * outcome.phases["stage"]


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
        settled.append(words[4:] == () or words[4] is None)
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


def test_an_update_that_an_exclusion_refuses_is_put_aside_and_two_rows_may_exchange_theirs(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create extension btree_gist;
    create table booking (id int primary key, room int, during int4range,
        constraint apart exclude using gist (room with =, during with &&));
    insert into booking values (1, 1, '[1,5)'), (2, 1, '[5,9)'), (3, 2, '[1,5)'), (4, 2, '[5,9)'), (5, 3, '[1,5)');
    """
    with ground(database, tmp_path, before, "alter table booking drop constraint apart") as made:
        made.write("update booking set during = '[4,6)' where id = 1")
        made.write(
            "update booking set during = '[20,30)' where id = 3",
            "update booking set during = '[1,5)' where id = 4",
            "update booking set during = '[5,9)' where id = 3",
        )
        # An update in place, and a row that comes into its way.
        made.write("update booking set during = '[2,5)' where id = 5", "insert into booking values (6, 3, '[1,3)')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("booking", "value", "1"), ("booking", "value", "6")]
        assert made.old("select id, lower(during) from booking order by id") == [(1, 1), (2, 5), (3, 5), (4, 1), (5, 2)]


PARTS = """
create table parent (id int primary key);
create table part (id int, kind text, n int, code text, parent int, primary key (id, kind)) partition by list (kind);
create table "Part.a" partition of part for values in ('a');
create table part_b partition of part for values in ('b');
create unique index part_a_id on "Part.a" (id);
create table child (id int primary key, part int constraint leads references "Part.a" (id));
insert into parent values (1), (2);
insert into part values (1, 'a', 1, 'x', 1), (2, 'a', 2, 'y', 2), (3, 'b', 3, 'x', 9), (4, 'a', 1, 'w', 1);
insert into child values (1, 4);
alter table "Part.a" add constraint small check (n < 10), add constraint known foreign key (parent) references parent;
create unique index part_a_code on "Part.a" (code);
"""
PARTS_RELAXED = """
alter table "Part.a" drop constraint small, drop constraint known;
alter table child drop constraint leads;
drop index part_a_code;
"""


def test_rules_of_a_partition_alone_are_asked_of_its_rows_alone(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, PARTS, PARTS_RELAXED) as made:
        made.write(
            "update part set n = 100 where id = 1",
            "update part set code = 'x' where id = 2",
            "update part set n = 100, code = 'z', parent = 8 where id = 3",
            "delete from part where id = 4",
            "insert into part values (5, 'a', 50, 'q', null), (6, 'a', 5, 'x', 1), (7, 'b', 70, 'x', 7)",
            "insert into part values (8, 'a', 1, 'ok', 2), (9, 'a', 1, 'r', 77)",
            "insert into child values (2, 8), (3, 7), (4, null)",
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("child", "foreign key", "3"),
            ("part", "foreign key", "4"),
            ("part", "foreign key", "9"),
            *(("part", "value", key) for key in ("1", "2", "5", "6")),
        ]
        assert made.old("select id, n, code from part where id in (3, 7, 8) order by id") == [
            (3, 100, "z"),
            (7, 70, "x"),
            (8, 1, "ok"),
        ]
        assert made.old("select id from child order by id") == [(1,), (2,), (4,)]


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


def test_a_truncation_of_a_transaction_that_is_put_aside_is_told(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("truncate purchase_line", "update customer set name = repeat('x', 50) where id = 1")
        outcome = made.carry(policy="transaction")
        assert made.old("select count(*) from purchase_line") == [(5,)]
        told = {(line["relation"], line["action"], line["kind"]) for line in lines(outcome, "put_aside")}
        assert told == {
            ("public.purchase_line", "truncate", "transaction"),
            ("public.customer", "update", "transaction"),
        }


def test_the_key_of_what_is_put_aside_is_written_as_in_the_log(database: Target, tmp_path: Path) -> None:
    before = "create table odd (a bool, b char(4), c inet, n int check (n < 10), primary key (a, b, c))"
    with ground(database, tmp_path, before, "alter table odd drop constraint odd_n_check") as made:
        made.write("insert into odd values (true, 'x', '10.0.0.1', 10)")
        (line,) = lines(made.carry(), "put_aside")
        assert line["key"] == {"a": "t", "b": "x   ", "c": "10.0.0.1"}


def test_a_foreign_key_that_matches_in_full_holds_of_its_columns_all_or_none(database: Target, tmp_path: Path) -> None:
    before = """
    create table place (shelf int, "Slot" int, primary key (shelf, "Slot"));
    create table box (id int primary key, shelf int, "Slot" int,
        constraint box_place foreign key (shelf, "Slot") references place match full);
    insert into place values (1, 1);
    """
    relaxed = 'alter table box drop constraint box_place, add foreign key (shelf, "Slot") references place'
    with ground(database, tmp_path, before, relaxed) as made:
        made.write("insert into box values (1, 1, 1), (2, null, null), (3, 1, null)")
        outcome = made.carry()
        assert reasons(outcome) == [("box", "value", "3")]
        assert made.old("select id from box order by id") == [(1,), (2,)]


@pytest.mark.skipif(not has_postgres(18), reason="needs PostgreSQL 18")
def test_a_constraint_that_is_not_enforced_puts_nothing_aside(servers: Servers, tmp_path: Path) -> None:
    database = fresh_database(servers(18))
    before = """
    create table parent (id int primary key);
    create table child (id int primary key, n int constraint small check (n < 10) not enforced,
        parent int constraint told references parent not enforced);
    """
    try:
        with ground(database, tmp_path, before, "alter table child add note text") as made:
            made.write("insert into child values (1, 100, 7)")
            outcome = made.carry()
            assert outcome.put_aside == 0
            assert made.old("select * from child") == [(1, 100, 7)]
    finally:
        drop_database(database)


def test_a_deferrable_exclusion_is_asked_about_for_no_trigger_looks_again(database: Target, tmp_path: Path) -> None:
    before = """
    create extension btree_gist;
    create table booking (id int primary key, room int, during int4range, cancelled bool not null default false,
        constraint apart exclude using gist (room with =, during with &&) where (not cancelled)
        deferrable initially deferred);
    insert into booking values (1, 1, '[1,5)'), (2, 2, '[1,5)'), (3, 3, '[1,5)'), (4, 4, '[1,5)');
    """
    with ground(database, tmp_path, before, "alter table booking drop constraint apart") as made:
        made.write(
            # Taken by a row that stays; by one that was changed; free where the row that was there moved or is gone.
            "insert into booking values (10, 1, '[4,8)', false), (11, 1, '[8,9)', false), (12, 1, '[4,8)', true)",
            "insert into booking values (13, null, '[1,5)')",
            "update booking set during = '[1,7)' where id = 2",
            "insert into booking values (20, 2, '[6,9)')",
            "update booking set room = 9 where id = 3",
            "insert into booking values (30, 3, '[1,5)')",
            "delete from booking where id = 4",
            "insert into booking values (40, 4, '[1,5)')",
            # The second overlaps the first, the third only the second, which does not come.
            "insert into booking values (50, 5, '[1,4)'), (51, 5, '[3,7)'), (52, 5, '[6,9)')",
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("booking", "unique", key) for key in ("10", "20", "51")]
        there = [row[0] for row in made.old("select id from booking order by id")]
        assert there == [1, 2, 3, 11, 12, 13, 30, 40, 50, 52]


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


def test_a_foreign_key_that_does_not_hold_after_all_ends_the_replay_and_changes_nothing(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggers are silent: what the questions before should have missed, the last one finds."""
    before = """
    create table parent (id int primary key);
    create table child (id int primary key, parent int constraint told references parent);
    insert into parent values (1);
    """
    with ground(database, tmp_path, before, "alter table child drop constraint told") as made:
        made.write("insert into child values (1, 1)", "insert into child values (2, 7)")
        monkeypatch.setattr(
            holding, "_orphans", lambda child, *_: f"UPDATE {child.change} SET verdict = '' WHERE false"
        )
        with pytest.raises(SafepointError, match=r"child\.told: 1 rows without a parent"):
            made.carry()
        assert made.old("select * from child") == []
        monkeypatch.undo()
        assert reasons(made.carry()) == [("child", "foreign key", "2")]
        assert made.old("select * from child") == [(1, 1)]


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
