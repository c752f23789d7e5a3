"""Transactions that are put aside as a whole: by the plan, or as half of one would break what holds rows together."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground, lines

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay.manner import Policy


def test_a_whole_transaction_is_put_aside_where_the_plan_says_so_with_those_that_build_on_it(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update customer set name = 'kept' where id = 1")
        made.write("update customer set name = 'lost' where id = 1", "update purchase set total = -1 where id = 1")
        made.write("update customer set mail = 'later' where id = 1", "update customer set name = 'too' where id = 2")
        made.write("update customer set name = 'other' where id = 3")
        outcome = made.carry(policy="transaction")
        assert (outcome.carried, outcome.partly, outcome.stashed) == (2, 0, 2)
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
        assert (outcome.stashed, outcome.partly) == (1, 1)


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
        assert (outcome.carried, outcome.stashed, outcome.partly, outcome.not_carried) == (1, 4, 0, 0)
        assert [one["key"] for one in lines(outcome, "stash") if one["together"] is None] == [{"id": "2"}]


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
        assert outcome.stashed == 6001 and outcome.seconds < 10
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
        assert (outcome.not_carried, outcome.partly) == (0, 0)  # all of both waits for the next launch
        stash = {
            one["key"]["id"]: one["values"]
            for one in lines(outcome, "stash")
            if "coupon" in one["relation"] and one["together"] is None
        }
        assert stash == {
            "1": {"id": "1", "code": "b", "body": None},
            "2": {"id": "2", "code": "b", "body": "b" * 8000},
        }


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
        assert (outcome.transactions, outcome.carried, outcome.stashed) == (8003, 2, 8001)
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
        assert (outcome.stashed, outcome.not_carried) == (5, 0)
        lines_ = [one for one in lines(outcome, "stash") if one["relation"] == "public.doc"]
        found = [one["values"] for one in lines_ if one["together"] is None]
        assert len(found) == 8000 and {one["n"] for one in found} == {"3"}
        # What was overwritten by the one that is put aside nobody knows any more.
        assert sum(one["body"] is None for one in found) == 4000
        # Some twice, however slow the machine; 60 times where each of them was held against all that followed.
        assert outcome.phases["account"] < 25 * outcome.phases["stage"]


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
