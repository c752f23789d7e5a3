"""Rows that had no parent before the launch (a foreign key that is NOT VALID, or was filled past): changed all the same
on the new release, they are carried back."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import ground, reasons

from safepoint.postgres.target import Target

BEFORE = """
create table item (id int primary key, code text);
create table line (id int primary key, item_id int, n int not null, up int references line);
insert into item select n, 'c' || n from generate_series(1, 4) n;
insert into line (id, item_id, n) values (1, 99, 1), (2, 1, 2), (3, 98, 3), (4, 2, 4);
alter table line add constraint line_item foreign key (item_id) references item not valid;
"""
WIDER = "alter table line drop constraint line_item; alter table line add note text"


@pytest.mark.parametrize("migration", ["alter table line add note text", WIDER], ids=["kept", "dropped"])
def test_a_row_that_had_no_parent_before_is_carried_as_long_as_it_names_the_same(
    database: Target, tmp_path: Path, migration: str
) -> None:
    with ground(database, tmp_path, BEFORE, migration) as site:
        site.write("update line set n = 11 where id = 1", "update line set n = 22 where id = 2")
        site.write("insert into item values (5, 'new')", "insert into line values (5, 5, 5)")
        done = site.carry()
        assert reasons(done) == []
        assert site.old("select id, item_id, n from line order by id") == [
            (1, 99, 11), (2, 1, 22), (3, 98, 3), (4, 2, 4), (5, 5, 5),
        ]  # fmt: skip


def test_a_row_that_names_another_missing_parent_is_put_aside(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, WIDER) as site:
        site.write("update line set item_id = 97 where id = 1", "update line set item_id = 99 where id = 2")
        site.write("insert into line values (5, 99, 5)", "update line set item_id = 98, n = 33 where id = 3")
        site.write("delete from item where id = 2", "update line set n = 44 where id = 4")
        done = site.carry()
        assert sorted(reasons(done)) == [
            ("item", "foreign key", "2"),
            ("line", "foreign key", "1"),
            ("line", "foreign key", "2"),
            ("line", "foreign key", "4"),
            ("line", "foreign key", "5"),
        ]
        assert site.old("select id, item_id, n from line order by id") == [
            (1, 99, 1),
            (2, 1, 2),
            (3, 98, 33),
            (4, 2, 4),
        ]
