"""A partition that is made after the launch, as for a new month: the old schema gets the same, and its rows."""

from __future__ import annotations

from pathlib import Path

from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground
from test_schema_since import ahead, rest, told

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

PARTED = """
create table visit (id int, day int, primary key (id, day)) partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
create table "Deep" (id int, day int, primary key (id, day)) partition by range (day);
create table filled (id int, day int, primary key (id, day)) partition by range (day);
create table filled_rest partition of filled default;
create table visit_5 (id int);
insert into visit values (1, 1); insert into filled values (1, 15);
"""
MIGRATED = RELAX + "create table visit_of_2 partition of visit for values from (90) to (99);"


@BOTH
def test_the_rows_of_a_partition_that_was_made_since_are_carried_into_one_like_it(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, MIGRATED, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write(
            "create table visit_2 partition of visit for values from (10) to (20)", "insert into visit values (2, 12)"
        )
        outcome = ahead(made, proven)
        assert (outcome.made, outcome.put_aside) == (("public.visit_2",), 0)
        made.write('create table "Deep 1" partition of "Deep" for values from (0) to (10) partition by range (id)')
        made.write('create table "Deep 1 a" partition of "Deep 1" for values from (0) to (10)')
        made.write("create table visit_3 (like visit including all)", "insert into visit_3 values (3, 22)")
        made.write("alter table visit attach partition visit_3 for values from (20) to (30)")
        made.write(
            'insert into "Deep" values (5, 5)',
            "update visit set id = 4 where id = 3",
            "insert into visit values (9, 9)",
        )
        made.write("delete from visit where id = 2")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0
        assert outcome.made == ("public.visit_2", "public.Deep 1", "public.visit_3", "public.Deep 1 a")
        for query in ("select tableoid::regclass::text, * from visit order by 2", 'select * from "Deep"'):
            assert made.old(query) == made.new(query), query
        assert {line["fate"] for line in told(made, proven, outcome.partitions)} == {"carried"}
        assert made.old("select count(*) from pg_class where relname = 'visit_of_2'") == [(0,)]  # the next launch's


@BOTH
def test_a_partition_that_cannot_be_made_costs_its_own_rows_and_no_others(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("drop table visit_5", "create table visit_5 partition of visit for values from (50) to (60)")
        made.write("delete from filled", "create table filled_1 partition of filled for values from (10) to (20)")
        made.write("insert into filled values (2, 12)", "insert into visit values (2, 52), (3, 3)")
        outcome = rest(made, proven)
        assert (outcome.made, outcome.put_aside) == ((), 1)
        assert made.old("select * from visit order by id") == [(1, 1), (3, 3)]
        assert made.old("select tableoid::regclass::text, * from filled") == [("filled_rest", 2, 12)]
