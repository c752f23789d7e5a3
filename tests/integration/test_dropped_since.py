"""A column of the release is dropped after the launch: the old schema has no place for it, and misses nothing."""

from __future__ import annotations

from pathlib import Path

from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground, lines
from test_schema_since import ahead, rest

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.mapping.mapping import changed_rules


@BOTH
def test_a_new_column_that_is_dropped_since_keeps_nothing_back(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("update purchase set total = 7, note = 'said' where id = 1")
        assert ahead(made, proven).now == 1
        made.write("update purchase set total = 8, note = 'gone' where id = 2")
        made.write("insert into purchase (customer_id, total, note) values (1, 9, 'gone')")
        made.write("alter table purchase drop note")
        made.write("update purchase set total = 9 where id = 3")
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert (outcome.carried, outcome.put_aside) == (4, 0)
        assert made.old("select total from purchase order by id") == made.new("select total from purchase order by id")
        assert [line["values"] for line in lines(outcome, "stash")] == [{"note": "said"}]  # by the first replay


@BOTH
def test_a_new_column_that_is_renamed_since_is_stashed_by_its_name_of_now(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("update purchase set total = 8, note = 'early' where id = 2")
        made.write("alter table purchase rename note to remark")
        made.write("update purchase set total = 9, remark = 'late' where id = 3")
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert (outcome.carried, outcome.put_aside) == (2, 0)
        stashed = {line["key"]["id"]: line["values"] for line in lines(outcome, "stash")}
        assert stashed == {"2": {"remark": "early"}, "3": {"remark": "late"}}
