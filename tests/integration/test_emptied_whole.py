"""A transaction that emptied a table, of which rows have to stay, is put aside as a whole where that is asked for."""

from __future__ import annotations

from pathlib import Path

from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground, lines

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

LOOSE = "alter table purchase drop constraint purchase_customer_id_fkey"
GUARD = """
create function look() returns trigger language plpgsql as $$ begin return null; end $$;
create constraint trigger looks after insert on customer for each row execute function look();
"""


@BOTH
def test_nothing_of_it_is_carried(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, SHOP, RELAX + LOOSE, RELAXED, how=how) as made:
        made.write("truncate customer", "update purchase_line set what = 'half' where id = 1")
        made.write("insert into customer (name) values ('later')")
        outcome = made.carry(policy="transaction")
        assert (outcome.carried, outcome.partly, outcome.not_carried) == (1, 0, 1)
        assert made.old("select what from purchase_line where id = 1") == [("w1",)]
        assert made.old("select name from customer where id > 4 order by id") == [("c5",), ("later",)]
        assert {line["kind"] for line in lines(outcome, "put_aside")} == {"transaction"}


def test_nor_where_a_constraint_trigger_looks_at_the_table(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP + GUARD, RELAX + LOOSE, RELAXED, how="logical") as made:
        made.write("truncate customer", "update purchase_line set what = 'half' where id = 1")
        outcome = made.carry()
        assert (outcome.carried, outcome.partly, outcome.not_carried) == (0, 0, 1)
        assert made.old("select what from purchase_line where id = 1") == [("w1",)]
