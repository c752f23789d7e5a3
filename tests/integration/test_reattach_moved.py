"""Rows that got another key on the new release, and that the old schema could not hold, come back under that key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, operations

from safepoint.postgres.target import Target

BEFORE = """
create table item (id int primary key, code text unique, name varchar(5), legacy int);
create table part (id int primary key, item_id int not null references item on update cascade, name varchar(5));
insert into item select n, 'i' || n, 'n' || n, n from generate_series(1, 7) n;
insert into part values (1, 6, 'p');
"""
WIDER = "alter table item alter name type text, drop legacy, add tag text; alter table part alter name type text"
WORDS: dict[str, Any] = {
    "before": BEFORE,
    "migration": WIDER,
    "found": operations(("column-removed", "item", "item", "legacy", None)),
}
LONG = "name = 'too long'"


def test_they_are_found_by_the_key_that_they_had(database: Target, tmp_path: Path) -> None:
    writes = (
        f"update item set id = 10, {LONG}, tag = 't' where id = 1",
        f"update item set id = 20, {LONG} where id = 2",
        f"update item set id = 30, {LONG} where id = 3",
        "update item set id = 300 where id = 30",
        f"update item set id = 40, {LONG} where id = 4",
        f"update item set id = id + 50, {LONG} where id = 6",
    )
    since = "update item set name = 'newer' where id = 2; insert into item values (40, 'other', 'x', 1)"
    with (
        rolled_back(database, tmp_path, *writes, **WORDS) as (made, _),
        launched_again(made, since, migration=WIDER) as again,
    ):
        assert ask(made.twin, "select min(id), max(id) from item") == [(1, 40)]
        done = attached(made, again)
        assert ask(again, "select id, code, name, tag from item order by code") == [
            (10, "i1", "too long", "t"),
            (2, "i2", "newer", None),
            (300, "i3", "too long", None),
            (4, "i4", "n4", None),
            (5, "i5", "n5", None),
            (6, "i6", "n6", None),
            (7, "i7", "n7", None),
            (40, "other", "x", None),
        ]
        told = {(one.table, one.key["id"], one.column): one.reason for one in done.preview}
        half = "another value of the same change could not be set"
        assert told == {
            ("item", "2", "id"): half,
            ("item", "2", "name"): "the row has a newer value",
            ("item", "4", "*"): 'duplicate key value violates unique constraint "item_pkey"',
            ("item", "6", "id"): "rows of part refer to the present value",
            ("item", "6", "name"): half,
            ("part", "1", "item_id"): "the row of item that it refers to is not there",
        }


def test_keys_that_were_exchanged_are_exchanged_again(database: Target, tmp_path: Path) -> None:
    exchange = [
        "update item set id = -1 where id = 1",
        "update item set id = 1 where id = 2",
        f"update item set id = 2, {LONG} where id = -1",
    ]
    with rolled_back(database, tmp_path, exchange, policy="transaction", **WORDS) as (made, _):
        assert ask(made.twin, "select id, code from item where id < 3 order by id") == [(1, "i1"), (2, "i2")]
        with launched_again(made, migration=WIDER) as again:
            assert attached(made, again).left == 0
            rows = ask(again, "select id, code, name from item where id < 3 order by id")
            assert rows == [(1, "i2", "n2"), (2, "i1", "too long")]


def test_one_whose_former_key_a_new_row_has_is_not_taken_for_that_one(database: Target, tmp_path: Path) -> None:
    writes = [
        f"update item set id = 10, {LONG} where id = 1",
        f"insert into item (id, name) values (1, '{5 * 'new '}')",
    ]
    with rolled_back(database, tmp_path, *writes, **WORDS) as (_, stash):
        lines = [json.loads(line) for line in stash.rows.read_text().splitlines()]
        assert [(one["key"]["id"], one["values"]["name"]) for one in lines] == [("1", 5 * "new ")]
        aside = [json.loads(line) for line in (tmp_path / "out" / "put-aside.jsonl").read_text().splitlines()]
        assert {one["key"]["id"]: one["kept"] for one in aside} == {"1": True, "10": False}


def test_one_that_took_the_key_of_a_row_that_was_deleted_is_not_kept_without_the_deletion(
    database: Target, tmp_path: Path
) -> None:
    swapped = ["delete from item where id = 5", f"update item set id = 5, {LONG} where id = 1"]
    writes = (swapped, f"update item set {LONG}")
    with rolled_back(database, tmp_path, *writes, **WORDS) as (_, stash):
        assert {json.loads(line)["key"]["id"] for line in stash.rows.read_text().splitlines()} == {
            "2",
            "3",
            "4",
            "6",
            "7",
        }
        aside = [json.loads(line) for line in (tmp_path / "out" / "put-aside.jsonl").read_text().splitlines()]
        assert {one["key"]["id"] for one in aside if not one["kept"]} == {"1", "5"}


def test_a_transaction_with_one_comes_back_whole(database: Target, tmp_path: Path) -> None:
    writes = [
        [f"update item set id = 10, {LONG} where id = 1", "delete from item where id = 5", "delete from part"],
        ["update item set id = 20 where id = 2", f"update item set {LONG} where id = 3"],
    ]
    with rolled_back(database, tmp_path, *writes, policy="transaction", **WORDS) as (made, _):
        assert ask(made.twin, "select count(*) from item") == [(7,)]
        with launched_again(made, "update item set code = 'newer' where id = 2", migration=WIDER) as again:
            assert attached(made, again).left == 0
            rows = ask(again, "select id, code, name from item order by id")
            assert [row[0] for row in rows] == [3, 4, 6, 7, 10, 20]
            assert ask(again, "select code, name from item where id = 20") == [("newer", "n2")]
            assert ask(again, "select count(*) from part") == [(0,)]
