"""What was written while a table or a column had another name, after the launch, is its own all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground, lines, operations, whole
from test_schema_since import ahead, rest, told

from safepoint.errors import Refused
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.mapping.mapping import changed_rules

CUSTOMERS = "select id, name, mail from customer order by id"
VISITS = """
create table visit (id int, day int, primary key (id, day)) partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
insert into visit values (1, 1), (2, 2);
"""


@BOTH
def test_what_was_written_while_a_table_had_another_name_is_carried(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, SHOP + VISITS, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("alter table customer rename to people", "create schema export")
        made.write("alter table visit rename to trip", "alter table visit_1 set schema export")
        made.write("insert into people (name) values ('new')", "update people set name = 'other' where id = 1")
        made.write("delete from trip where id = 1", "insert into trip values (3, 3)")
        made.write("alter table purchase_line rename to lines")
        made.write("truncate lines", "insert into lines (id, purchase_id, what) values (3, 1, 'new')")
        made.drain()
        made.write("alter table people rename to customer", "alter table export.visit_1 set schema public")
        made.write("alter table lines rename to purchase_line")
        made.write("alter table trip rename to visit", "update customer set mail = 'm' where id = 6")
        rest(made, proven)
        for query in (CUSTOMERS, "select id, day from visit order by 1", "select id, what from purchase_line"):
            assert made.old(query) == made.new(query), query
        lines = told(made, proven)
        assert {line["fate"] for line in lines} == {"carried"}
        assert [(line["table"], line["key"]) for line in lines][:2] == [("customer", "id=6"), ("customer", "id=1")]


@BOTH
def test_two_tables_that_changed_names_and_have_their_own_again_get_each_its_own(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = "create table one (id int primary key, w text); create table two (id int primary key, w text);"
    swap = ("alter table one rename to three", "alter table two rename to one", "alter table three rename to two")
    with ground(database, tmp_path, SHOP + before, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("insert into one values (1, 'one')")
        made.write(*swap)
        made.write("insert into one values (2, 'two')", "insert into two values (2, 'one')")
        made.drain()
        made.write(*swap)
        rest(made, proven)
        assert made.old("select * from one order by 1") == [(1, "one"), (2, "one")]
        assert made.old("select * from two order by 1") == [(2, "two")]


@BOTH
def test_what_was_written_to_a_table_that_is_called_otherwise_now_is_no_new_tables(
    database: Target, tmp_path: Path, how: How
) -> None:
    """It would be in the stash as somebody else's, also once the table has its name again."""
    with ground(database, tmp_path, SHOP + VISITS, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("alter table customer rename to people", "alter table visit rename to trip")
        made.write("insert into people (name) values ('new')")
        with pytest.raises(Refused, match="people"):
            ahead(made, proven)
        made.write("alter table people rename to customer", "insert into trip values (3, 3)")
        with pytest.raises(Refused, match="trip"):
            rest(made, proven)
        made.write("alter table trip rename to visit")
        assert rest(made, proven).carried == 2
        assert made.old(CUSTOMERS) == made.new(CUSTOMERS) and made.old("select count(*) from visit") == [(3,)]


@BOTH
def test_what_was_written_while_columns_had_other_names_is_carried(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("alter table customer rename id to number")
        made.write("alter table customer rename mail to post", "alter table customer add vat text")
        made.write("insert into customer (name, post) values ('gone', 'g'), ('new', 'p')")
        made.write("delete from customer where number = 6")
        made.write("update customer set post = 'other', vat = 'v' where number = 2")
        made.write("update customer set number = 9 where number = 7", "delete from purchase_line where id = 1")
        made.drain()
        made.write("alter table customer rename post to mail", "alter table customer rename number to id")
        made.write("insert into customer (name, mail) values ('last', 'l')")
        assert changed_rules(proven, made.mapping()) == ()
        rest(made, proven)
        assert made.old(CUSTOMERS) == made.new(CUSTOMERS)
        assert "id=9" in {line["key"] for line in told(made, proven)}


def test_a_column_that_is_new_under_a_former_ones_name_is_not_taken_for_it(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how="logical") as made:
        proven = made.mapping()
        made.write("alter table customer rename mail to post")
        made.write("update customer set post = 'former' where id = 2")
        made.write("alter table customer drop post, add mail text")
        with pytest.raises(Refused, match="customer"):
            rest(made, proven)


@BOTH
def test_what_stands_behind_a_column_that_the_launch_removed_may_have_another_name_for_a_time(
    database: Target, tmp_path: Path, how: How
) -> None:
    """Its place is empty since before anything was captured: nothing new can have come into it."""
    before = "create table item (id int primary key, legacy int, what text); insert into item values (1, 1, 'a');"
    done = operations(("column-removed", "item", "item", "legacy", None))
    with ground(database, tmp_path, before, "alter table item drop legacy", done, how=how) as made:
        made.write("alter table item rename what to word")
        made.write("update item set word = 'b' where id = 1", "insert into item values (2, 'c')")
        made.drain()
        made.write("alter table item rename word to what")
        whole(made, made.carry())


@BOTH
def test_what_a_mapper_reads_and_what_is_stashed_may_have_another_name_for_a_time(
    database: Target, tmp_path: Path, how: How
) -> None:
    before = "create table item (id int primary key, price numeric(8, 2)); insert into item values (1, 1), (2, 2);"
    migration = """
    alter table item add cents int, add note text;
    update item set cents = price * 100;
    alter table item drop price;
    """
    done = operations(("column-removed", "item", "item", "price", None))
    mappers = {"public.item": {"price": "round(new.cents / 100.0, 2)"}}
    with ground(database, tmp_path, before, migration, done, mappers, how=how) as made:
        made.write("alter table item rename cents to pennies", "alter table item rename note to word")
        made.write("update item set pennies = 350 where id = 1", "insert into item values (3, 400, 'n')")
        made.write("alter table item add passing int", "update item set passing = 1, word = 'w' where id = 2")
        made.drain()
        made.write("alter table item rename pennies to cents", "alter table item rename word to note")
        made.write("alter table item drop passing")
        outcome = made.carry()
        assert made.old("select id, price::text from item order by 1") == [(1, "3.50"), (2, "2.00"), (3, "4.00")]
        stash = {one["key"]["id"]: one["values"].get("note") for one in lines(outcome, "stash")}
        assert stash == {"1": None, "2": "w", "3": "n"}


def test_columns_of_a_partition_stand_in_its_own_order(database: Target, tmp_path: Path) -> None:
    before = """
    create table visit (id int, day int, a text, b text, primary key (id, day)) partition by range (day);
    create table visit_1 (b text, id int not null, a text, day int not null);
    alter table visit attach partition visit_1 for values from (0) to (10);
    """
    with ground(database, tmp_path, before, "select 1", operations(), how="logical") as made:
        made.write("alter table visit rename a to c", "alter table visit rename b to d")
        made.write("insert into visit (id, day, c, d) values (1, 1, 'a', 'b')")
        made.drain()
        made.write("alter table visit rename c to a", "alter table visit rename d to b")
        whole(made, made.carry())
