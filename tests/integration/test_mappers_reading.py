"""A value that a migration moved into another table is read from there: a change of that table alone changes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from replay_ground import BOTH, Ground, ground, lines, operations, reasons, whole

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

BEFORE = """
create table item (id int primary key, code text not null, price numeric(8, 2) not null, note text);
insert into item select n, 'i' || n, n, 'n' || n from generate_series(1, 6) n;
"""
CHANGE = """
create table price (id serial primary key, item_id int not null references item on delete cascade on update cascade,
    amount numeric(12, 4) not null);
insert into price (item_id, amount) select id, price from item;
alter table item drop price;
"""
CHANGES = operations(("column-removed", "item", "item", "price", None))
PRICE = "(select sum(p.amount) from price p where p.item_id = new.id)"
MAPPERS = {"item": {"price": PRICE}}
Launch = Callable[[How], AbstractContextManager[Ground]]


@pytest.fixture
def launch(home: Target, tmp_path: Path) -> Launch:
    """A launch that moves the prices into a table of their own."""
    return lambda how: ground(home, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS, how)


def prices(made: Ground) -> dict[int, str]:
    return {row[0]: str(row[1]) for row in made.old("select id, price from item order by id")}


@BOTH
def test_a_change_of_the_table_that_a_mapper_reads_changes_the_old_row(launch: Launch, how: How) -> None:
    with launch(how) as made:
        trip = round_trip(made.twin, made.live, made.mapping())
        assert doubtful(made.mapping(), trip) == () and trip.tables[0].reads == ("public.price",)
        made.write("update price set amount = 9.5 where item_id = 1")
        made.write("insert into price (item_id, amount) values (2, 0.25)")
        made.write("delete from price where item_id = 3", "insert into price (item_id, amount) values (3, 33)")
        made.write(
            "update price set item_id = 5 where item_id = 4", "insert into price (item_id, amount) values (4, 1)"
        )
        made.write("insert into item values (7, 'i7', 'new')", "insert into price (item_id, amount) values (7, 7)")
        made.write("update item set note = 'touched' where id = 6")
        whole(made, made.carry())
        assert prices(made) == {1: "9.50", 2: "2.25", 3: "33.00", 4: "1.00", 5: "9.00", 6: "6.00", 7: "7.00"}
        assert made.old("select code, note from item where id in (1, 6)") == [("i1", "n1"), ("i6", "touched")]


@BOTH
def test_keys_cascades_and_truncations_of_both_tables_are_followed(launch: Launch, how: How) -> None:
    with launch(how) as made:
        made.write("update item set id = 60 where id = 6", "update price set amount = 66 where item_id = 60")
        made.write("update price set id = 500 where item_id = 5", "update price set amount = 55 where id = 500")
        made.write("delete from item where id = 4")
        made.write("insert into item values (4, 'again', null)", "insert into price (item_id, amount) values (4, 44)")
        whole(made, made.carry())
        assert prices(made) == {1: "1.00", 2: "2.00", 3: "3.00", 4: "44.00", 5: "55.00", 60: "66.00"}
        # A second replay goes on behind the first.
        made.write("truncate price", "insert into price (item_id, amount) select id, id + 0.5 from item")
        whole(made, made.carry())
        assert prices(made) == {1: "1.50", 2: "2.50", 3: "3.50", 4: "4.50", 5: "5.50", 60: "60.50"}
        made.write("truncate item cascade", "insert into item values (1, 'x', 'y')")
        made.write("insert into price (item_id, amount) values (1, 3), (1, 4)")
        whole(made, made.carry())
        assert prices(made) == {1: "7.00"}


@BOTH
def test_only_rows_whose_values_cannot_be_had_are_put_aside(launch: Launch, how: How) -> None:
    with launch(how) as made:
        made.write("delete from price where item_id = 2")
        made.write(
            "update price set amount = 3.333 where item_id = 3", "update price set amount = 1e7 where item_id = 4"
        )
        made.write("update price set amount = 50 where item_id = 5", "insert into item values (7, 'unpriced', '')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("item", "value", "2"), ("item", "value", "4"), ("item", "value", "7")]
        # By a mapper's own cast: like any value of a mapper, it is given to the column as PostgreSQL gives it.
        assert prices(made) == {1: "1.00", 2: "2.00", 3: "3.33", 4: "4.00", 5: "50.00", 6: "6.00"}


def test_a_mapper_that_fails_for_a_row_fails_for_no_other(database: Target, tmp_path: Path) -> None:
    one = {"item": {"price": "(select p.amount from price p where p.item_id = new.id)"}}
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, one) as made:
        made.write("insert into price (item_id, amount) values (2, 7)")  # now there are two
        made.write("update price set amount = 11 where item_id = 1", "update item set note = 'x' where id in (2, 3)")
        made.write("insert into price (item_id, amount) values (4, 7)")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("item", "value", "2"), ("item", "value", "4")]
        assert {one.reason for one in outcome.aside} == {
            "more than one row returned by a subquery used as an expression"
        }
        assert made.old("select id, price::float, note from item where id < 4 order by id") == [
            (1, 11.0, "n1"),
            (2, 2.0, "n2"),
            (3, 3.0, "x"),
        ]


def test_of_a_row_that_nobody_touched_only_what_is_read_changes(database: Target, tmp_path: Path) -> None:
    """A rollback that was turned round left the twin with what the old release had written meanwhile."""
    change = f"{CHANGE} alter table item add tag text default 't'"
    with ground(database, tmp_path, BEFORE, change, CHANGES, MAPPERS) as made:
        made.write("update item set note = 'touched' where id = 2", "update item set tag = 'mine' where id = 3")
        made.carry()
        made.old("update item set note = 'between' where id in (1, 2) returning id")
        made.write("update price set amount = amount + 10 where item_id in (1, 3)")
        outcome = made.carry()
        assert outcome.put_aside == 0
        assert made.old("select id, note, price::float from item where id < 4 order by id") == [
            (1, "between", 11.0),
            (2, "between", 2.0),
            (3, "n3", 13.0),
        ]
        stashed = {(one["relation"], one["key"]["id"], one["values"].get("tag")) for one in lines(outcome, "stash")}
        items = {("public.item", "2", "t"), ("public.item", "3", "mine")}
        assert stashed == {*items, ("public.price", "1", None), ("public.price", "3", None)}
