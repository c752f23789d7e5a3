"""A row that was deleted on the new release, and that the next migration made and needs again, stays; others come."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target

BEFORE = (
    "create table entry (id int primary key, memo text); insert into entry select n, 'm' from generate_series(1, 4) n"
)
NEXT = """
create table kind (id int primary key, name text unique, part_of int references kind);
insert into kind values (1, 'usual', null), (2, 'rare', null), (3, 'odd', 2);
alter table entry add kind_id int references kind;
update entry set kind_id = 1;
"""
WRITES = (
    "insert into kind values (4, 'mine', null)",
    "update entry set kind_id = 4",
    "delete from kind where id in (1, 3); delete from kind where id = 2",
)


def test_a_deletion_of_what_the_next_migration_needs_is_left_and_the_rest_comes_back(
    database: Target, tmp_path: Path
) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    # The old release made a row since, to which the migration gives the usual kind.
    since = ("insert into entry values (9, 'since')",)
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),
        launched_again(made, *since, migration=NEXT) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select id, kind_id from entry order by id") == [(1, 4), (2, 4), (3, 4), (4, 4), (9, 1)]
        assert ask(again, "select id from kind order by id") == [(1,), (4,)]
        (left,) = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
        assert (left["key"], left["reason"]) == ({"id": "1"}, "rows of entry refer to it")
        assert (done.left, done.values, done.rows) == (1, 4, 3)


def test_a_row_that_took_the_name_of_a_deleted_one_comes_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    writes = ("update kind set name = 'was' where id = 1; insert into kind values (4, 'usual', null)", *WRITES[1:])
    with rolled_back(database, tmp_path, *writes, **words) as (made, _), launched_again(made, migration=NEXT) as again:
        assert attached(made, again).left == 0
        assert ask(again, "select id, name from kind") == [(4, "usual")]


def test_rows_without_a_key_are_in_nobodys_way(database: Target, tmp_path: Path) -> None:
    migration = NEXT + "create table note (text text);"
    words = {"before": BEFORE, "migration": migration}
    since = ("insert into entry values (9, 'since')",)
    with (
        rolled_back(database, tmp_path, *WRITES, "insert into note values ('a'), ('a')", **words) as (made, _),
        launched_again(made, *since, migration=migration) as again,
    ):
        assert attached(made, again).left == 1
        assert ask(again, "select text from note") == [("a",), ("a",)]


def test_a_value_whose_key_of_two_columns_leads_nowhere_is_left(database: Target, tmp_path: Path) -> None:
    before = """
        create table place (room int, seat int, primary key (room, seat));
        insert into place select r, s from generate_series(1, 2) r, generate_series(1, 3) s;
        create table guest (id int primary key, room int not null);
        insert into guest values (1, 1), (2, 2), (3, 1);
    """
    migration = "alter table guest add seat int, add foreign key (room, seat) references place"
    writes = ("update guest set seat = id",)
    since = ("delete from place where room = 2 and seat = 2",)
    with (
        rolled_back(database, tmp_path, *writes, before=before, migration=migration) as (made, _),
        launched_again(made, *since, migration=migration) as again,
    ):
        done = attached(made, again)
        assert [(one.column, one.reason) for one in done.preview] == [
            ("seat", "the row of place that it refers to is not there")
        ]
        assert ask(again, "select id, seat from guest order by id") == [(1, 1), (2, None), (3, 3)]
