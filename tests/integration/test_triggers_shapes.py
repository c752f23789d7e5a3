"""Triggers note rows without names: each row has those that its table's columns, and the table, had at the time."""

from __future__ import annotations

from pathlib import Path

from replay_ground import RELAX, RELAXED, SHOP, ground, lines
from test_schema_since import rest, told
from trigger_ground import changes

from safepoint.postgres.target import Target


def test_a_column_that_took_a_dropped_ones_place_gets_nothing_of_it(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how="triggers") as made:
        proven = made.mapping()
        made.write("alter table customer add vip text", "update customer set vip = 'yes' where id = 1")
        made.write("alter table customer drop vip, add day date", "update customer set day = '2026-01-01' where id = 2")
        outcome = rest(made, proven)
        assert {one["key"]["id"]: one["values"] for one in lines(outcome, "stash")} == {
            "1": {"day": None},
            "2": {"day": "2026-01-01"},
        }
        assert [change[2].get("vip") for change in changes(made)] == ["yes", None]


def test_each_row_has_the_columns_of_its_time(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, "create table t (id int)", "select 1", how="triggers") as made:
        made.write("alter table t add one int", "insert into t values (1, 1)", "alter table t add two int")
        made.write("insert into t values (2, 2, 2)", "alter table t drop one", "insert into t values (3, 3)")
        made.write("alter table t rename two to three", "insert into t values (4, 4)", "alter table t drop three")
        made.write(
            "create table u as select 5 as five", "alter table u add six int default 6", "insert into u values (7)"
        )
        made.write("drop table u")
        made.drain()
        assert [row for _, _, row in changes(made)] == [
            {"id": "1", "one": "1"},
            {"id": "2", "one": "2", "two": "2"},
            {"id": "3", "two": "3"},
            {"id": "4", "three": "4"},
            {"five": "5"},
            {"five": "7", "six": "6"},
        ]


def test_a_copy_that_is_put_in_its_tables_place_costs_no_row(database: Target, tmp_path: Path) -> None:
    """As somebody does by hand who wants a smaller table, or another order of columns."""
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how="triggers") as made:
        proven = made.mapping()
        made.write("insert into purchase_line (purchase_id, what) values (1, 'new')", "truncate purchase_line")
        made.write("insert into purchase_line (id, purchase_id, what) values (1, 1, 'before'), (3, 3, 'before')")
        made.write("create table copy as select * from purchase_line", "alter table copy add primary key (id)")
        made.write("drop table purchase_line", "alter table copy rename to purchase_line")
        made.write("update purchase_line set what = 'after' where id = 3", "delete from purchase_line where id = 1")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0
        assert made.old("select * from purchase_line") == [(3, 3, "after")]
        assert [line["fate"] for line in told(made, proven) if line["table"] == "purchase_line"] == ["carried"] * 6
