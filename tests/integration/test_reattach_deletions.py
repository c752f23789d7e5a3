"""Rows whose deletion could not be carried back: the next launch deletes them, where nobody needs or changed them."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import RELAX, RELAXED, SHOP, ask

from safepoint.postgres.target import Target

SHOPPED = {"before": SHOP, "migration": RELAX, "found": RELAXED}
# The old schema does not take the new customer: so the purchase stays with the former one, who cannot go.
MOVED = (
    "insert into customer (name) values (repeat('x', 30))",
    "update purchase set customer_id = 6 where customer_id in (4, 5)",
    "delete from customer where id in (4, 5)",
)


def test_they_are_deleted_with_the_next_launch(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, MOVED, **SHOPPED) as (made, _):
        assert ask(made.twin, "select id from customer where id > 3 order by id") == [(4,), (5,)]
        lines = (tmp_path / "out" / "put-aside.jsonl").read_text().splitlines()
        assert {(one["action"], one["kept"]) for one in map(json.loads, lines)} == {
            ("insert", True),
            ("update", True),
            ("delete", True),
        }
        with launched_again(made, migration=RELAX) as again:
            done = attached(made, again)
            assert (done.rows, done.left) == (3, 0), done.preview
            assert ask(again, "select id from customer where id > 3 order by id") == [(6,)]
            assert ask(again, "select id, customer_id from purchase where id > 3") == [(4, 6), (5, 6)]


def test_what_was_changed_or_is_needed_by_then_stays_and_is_told(database: Target, tmp_path: Path) -> None:
    since = (
        "insert into purchase (id, customer_id, total) values (66, 5, 1)",
        "update customer set mail = 'newer' where id = 4",
    )
    # One that had no customer before is none of this launch's business.
    orphan = "set session_replication_role = replica; insert into purchase (customer_id, total) values (77, 1);"
    before = f"{SHOP} {orphan} reset session_replication_role"
    with (
        rolled_back(database, tmp_path, MOVED, before=before, migration=RELAX, found=RELAXED) as (made, _),
        launched_again(made, *since, migration=RELAX) as again,
    ):
        done = attached(made, again)
        assert {(one.table, one.key["id"], one.reason) for one in done.preview} == {
            ("customer", "4", "the row has newer values, and is not deleted"),
            ("customer", "5", "rows of purchase refer to it"),
        }
        assert ask(again, "select id from customer where id > 3 order by id") == [(4,), (5,), (6,)]
        assert ask(again, "select id, customer_id from purchase where id in (4, 5, 66) order by id") == [
            (4, 6),
            (5, 6),
            (66, 5),
        ]
