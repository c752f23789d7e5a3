"""TRUNCATE of a partition that the twin has by another name, or has none for: its rows are gone there as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, RELAX, SHOP, ground, operations
from test_schema_since import ahead, rest

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

VISITS = """
create table visit (id int, day int{key}) partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
create table visit_rest partition of visit default;
create table part (id int primary key) partition by hash (id);
create table part_0 partition of part for values with (modulus 2, remainder 0);
create table part_1 partition of part for values with (modulus 2, remainder 1);
insert into visit values (1, 1), (2, 12); insert into part select generate_series(1, 9);
"""
MIGRATED = RELAX + "alter table visit rename day to at;"
FOUND = operations(
    ("column-removed", "purchase", "purchase", "legacy", None), ("column-renamed", "visit", "visit", "day", "at")
)
KEYED = pytest.mark.parametrize("key", [", primary key (id, day)", ""], ids=["keyed", "keyless"])


@KEYED
@BOTH
def test_a_partition_that_has_another_name_since_is_emptied_in_the_twin(
    database: Target, tmp_path: Path, how: How, key: str
) -> None:
    with ground(database, tmp_path, SHOP + VISITS.format(key=key), MIGRATED, FOUND, how=how) as made:
        proven = made.mapping()
        made.write("truncate visit_1", "insert into visit values (3, 3)")
        made.write("alter table visit_1 rename to visit_first", "alter table part_1 rename to part_other")
        made.write("truncate visit_first, part_other", "insert into visit values (4, 4)")
        assert rest(made, proven).put_aside == 0
        assert (
            made.old("select * from visit order by 1")
            == made.new("select * from visit order by 1")
            == [(2, 12), (4, 4)]
        )
        assert made.old("select * from part order by 1") == made.new("select * from part order by 1")


@KEYED
def test_a_partition_whose_rows_lie_in_a_default_one_is_emptied_there(
    database: Target, tmp_path: Path, key: str
) -> None:
    with ground(database, tmp_path, SHOP + VISITS.format(key=key), MIGRATED, FOUND, how="logical") as made:
        proven = made.mapping()
        made.write(
            "delete from visit where id = 2", "create table visit_2 partition of visit for values from (10) to (20)"
        )
        made.write("insert into visit values (3, 13), (4, 24)")
        assert ahead(made, proven).made == ()
        made.write("truncate visit_2", "insert into visit values (5, 15)")
        assert rest(made, proven).put_aside == 0
        assert made.old("select * from visit order by 1") == [(1, 1), (4, 24), (5, 15)]
