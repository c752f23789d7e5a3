"""Columns and tables that SQL exchanged: an empty table's round trip cannot tell it, the catalogue's numbers can."""

from __future__ import annotations

from pathlib import Path

import pytest
from least_plan import LEAST
from replay_ground import Ground, ground, operations

from safepoint.config.load import parse
from safepoint.django.operations import Operations
from safepoint.launch.wayback.proving import prove_way_back
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.trial.exchanged import exchanged
from safepoint.wayback.trial.roundtrip import round_trip

BEFORE = """
create table item (id int primary key, gone int, price numeric, cost numeric);
create table plan (id int primary key, price numeric, cost numeric);
create table draft (id int primary key, price numeric, cost numeric);
create table full_ (id int primary key, price numeric, cost numeric);
insert into full_ values (1, 2, 3);
alter table item drop gone;
"""
COLUMNS = (
    "alter table {0} rename price to was; alter table {0} rename cost to price; alter table {0} rename was to cost;"
)
TABLES = "alter table plan rename to was; alter table draft rename to plan; alter table was rename to draft;"
RENAMED = operations(
    ("column-renamed", "item", "item", "price", "was"),
    ("column-renamed", "item", "item", "cost", "price"),
    ("column-renamed", "item", "item", "was", "cost"),
)


def told(made: Ground, *named: str) -> list[str]:
    """What is told of, once each row has come back."""
    mapping = made.mapping()
    assert round_trip(made.twin, made.live, mapping).whole and mapping.problems == ()
    with connect(made.twin) as old, connect(made.live) as new:
        found = exchanged(old, new, mapping, read_catalogue(old), named)
    return [one.split()[0].strip(":") for one in found]


def test_columns_that_sql_exchanged_are_told_where_no_row_tells(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, COLUMNS.format("item")) as made:
        assert told(made) == ["item.price", "item.cost"]


@pytest.mark.parametrize(
    ("migration", "done"),
    [
        (COLUMNS.format("item"), RENAMED),
        # The values went with the names: the row says so.
        (COLUMNS.format("full_") + "update full_ set price = cost, cost = price", None),
        # A column, and a table, that were made anew are nothing that was another one.
        (
            "alter table item add price_2 numeric; alter table item rename price to former;"
            "alter table item rename price_2 to price; alter table plan rename to former;"
            "create table plan (like former including all); drop table former",
            None,
        ),
        ("drop table plan; create table plan (id int primary key, cost numeric, price numeric)", None),
    ],
    ids=["said", "moved", "made-anew", "table-made-anew"],
)
def test_what_the_operations_say_or_a_row_tells_is_no_exchange(
    database: Target, tmp_path: Path, migration: str, done: Operations | None
) -> None:
    with ground(database, tmp_path, BEFORE, migration, done) as made:
        assert told(made) == []


def test_tables_that_sql_exchanged_are_told_until_the_plan_names_them(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, TABLES) as made:
        assert told(made) == ["draft", "plan"]
        assert told(made, "public.draft", "public.plan") == []


def test_a_mapper_settles_what_was_exchanged(database: Target, tmp_path: Path) -> None:
    mappers = {"item": {"price": "new.cost", "cost": "new.price"}}
    with ground(database, tmp_path, BEFORE, COLUMNS.format("item"), mappers=mappers) as made:
        assert told(made) == []


def test_the_way_back_is_not_proven_where_only_the_catalogue_tells(database: Target, tmp_path: Path) -> None:
    plan = parse(LEAST, tmp_path / "launch.toml")
    with ground(database, tmp_path, BEFORE, COLUMNS.format("item")) as made:
        found = prove_way_back(
            plan, made.twin, made.live, made.operations, keep=lambda *_, **__: None, cancelled=lambda: False
        )
    assert not found.proven and [one[:26] for one in found.doubts] == [
        "item.price needs a mapper:",
        "item.cost needs a mapper: ",
    ]
