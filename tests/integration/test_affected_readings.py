"""Who wrote to what a mapper reads learns of the old row that could not get the new value."""

from __future__ import annotations

from pathlib import Path

from replay_ground import ground
from test_affected import told
from test_mappers_reading import BEFORE, CHANGE, CHANGES, MAPPERS

from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import UserTable

OWNED = "create table users (id int primary key, name text); insert into users values (1, 'ann'), (2, 'bob');"
USED = "alter table item add owner int references users; update item set owner = 1 + id % 2;"


def test_a_row_that_was_put_aside_for_what_is_read_has_a_line_of_its_own(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, OWNED + BEFORE + USED, CHANGE, CHANGES, MAPPERS) as made:
        made.write("update price set amount = 1e7 where item_id = 2", "update price set amount = 5 where item_id = 1")
        made.write("update item set note = 'later' where id = 3")
        outcome = made.carry()
        assert (outcome.put_aside, outcome.not_carried) == (1, 0)
        found, rows = told(made, UserTable("users", "name"), given={})
        lines = [(row["table"], row["key"], row["user"], row["fate"], row["xid"]) for row in rows]
        both, later = rows[0]["xid"], rows[3]["xid"]
        assert lines == [
            ("price", "id=2", "ann", "stashed", both),
            ("price", "id=1", "bob", "stashed", both),
            ("item", "id=2", "ann", "not carried", both),
            ("item", "id=3", "bob", "carried", later),
        ]
        assert rows[2]["reason"].startswith("not it, but what a mapper reads for it was written to: ")
        assert found.totals.lost == 1


def test_so_it_has_where_its_transaction_was_put_aside(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS) as made:
        made.write("update price set amount = 1e7 where item_id = 2", "update price set amount = 5 where item_id = 1")
        made.carry(policy="transaction")
        _, rows = told(made, UserTable("nobody", "x"), given={})
        assert sorted((row["table"], row["key"], row["fate"]) for row in rows) == [
            ("item", "id=1", "not carried"),
            ("item", "id=2", "not carried"),
            ("price", "id=1", "not carried"),
            ("price", "id=2", "not carried"),
        ]
