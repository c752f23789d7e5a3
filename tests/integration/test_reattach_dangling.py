"""Rows that had no parent before are no hindrance for the stash; what would have none by it is not written."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import RELAX, RELAXED, SHOP
from test_dangling_before import BEFORE

from safepoint.postgres.target import Target

NEXT = """
alter table line add note text, add item_2 int references item;
create table mark (id int primary key, line_id int references line);
"""


def test_the_stash_comes_back_beside_rows_that_had_no_parent_before(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    writes = ("update line set note = 'x', item_2 = 3 where id in (1, 2)", "insert into mark values (1, 1), (2, 4)")
    with rolled_back(database, tmp_path, *writes, **words) as (made, _), launched_again(made, migration=NEXT) as again:
        done = attached(made, again)
        assert (done.values, done.rows, done.left) == (4, 2, 0)


def test_a_stashed_row_whose_parent_was_deleted_since_does_not_come_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    writes = ("update line set note = 'x', item_2 = 3 where id in (1, 2)", "insert into mark values (1, 1), (2, 4)")
    since = ("delete from item where id = 3", "delete from line where id = 4")
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),
        launched_again(made, *since, migration=NEXT) as again,
    ):
        done = attached(made, again)
        assert (done.values, done.rows, done.left) == (2, 1, 3)


def test_a_row_comes_back_to_a_table_that_rows_without_a_parent_refer_to(database: Target, tmp_path: Path) -> None:
    orphan = "set session_replication_role = replica; insert into purchase (customer_id, total) values (77, 1);"
    words = {"before": f"{SHOP} {orphan} reset session_replication_role", "migration": RELAX, "found": RELAXED}
    write = "insert into customer (name) values (repeat('x', 30))"
    with rolled_back(database, tmp_path, write, **words) as (made, _), launched_again(made, migration=RELAX) as again:
        done = attached(made, again)
        assert (done.rows, done.left) == (1, 0)
