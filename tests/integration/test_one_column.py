"""A table of one column, which gets another one while it is captured by triggers."""

from __future__ import annotations

from pathlib import Path

from replay_ground import ground

from safepoint.postgres.target import Target


def test_a_row_of_nothing_but_null_is_read_after_a_column_was_added(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, "create table tag (what text)", "select 1", how="triggers") as made:
        made.write("insert into tag values (null), ('a')")
        made.write("alter table tag add more text")
        made.write("insert into tag values (null, null), ('b', 'c')")
        assert made.carry().carried == 2
        assert made.old("select what from tag order by what") == [("a",), ("b",), (None,), (None,)]
