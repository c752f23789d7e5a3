"""A part of a snapshot in which tables are partitioned: their keys, and those that have no partition yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers, drop_database

from safepoint.backup.placement import place
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

MADE = """
    create schema "Of Sales"; set search_path = "Of Sales";
    create table place (id int primary key) partition by hash (id);
    create table place_0 partition of place for values with (modulus 2, remainder 0);
    create table place_1 partition of place for values with (modulus 2, remainder 1);
    insert into place select generate_series(1, 20);
    create table entry (id int not null, place int, constraint of_a_place foreign key (place) references place)
        partition by range (id);
    create table entry_1 partition of entry for values from (1) to (10);
    create table entry_2 partition of entry for values from (10) to (20) partition by range (id);
    create table entry_2a partition of entry_2 for values from (10) to (20);
    insert into entry select n, n from generate_series(1, 19) n;
    create table note (place int constraint at_a_place references place);
    insert into note values (3);
    create table later (id int primary key) partition by range (id);
    create table waits (id int constraint for_later references later);
    create table public.outside (place int constraint from_outside references place);
"""
KEYS = "select conname from pg_constraint where contype = 'f' and conparentid = 0 order by 1"
TABLES = """
    select relname from pg_class where relkind in ('r', 'p') and relnamespace::regnamespace::text like '%ale%'
    order by 1
"""


@pytest.fixture
def part(servers: Servers, database: Target, tmp_path: Path) -> Iterator[Callable[..., tuple[list[str], list[str]]]]:
    """Restores a part: the foreign keys that came along, and the tables of the schema."""
    run(database, MADE)
    folder = snap(database, servers(17), tmp_path / "snapshots")
    copy = database.on(f"{database.dbname}_part")

    def restore(*words: str) -> tuple[list[str], list[str]]:
        place(folder, database, copy.dbname, only=words)
        with connect(copy) as connection:
            keys, tables = ([str(row[0]) for row in connection.execute(query)] for query in (KEYS, TABLES))
        return keys, tables

    try:
        yield restore
    finally:
        drop_database(copy)


def test_keys_of_partitioned_tables_and_such_without_partitions_come_with_their_schema(
    part: Callable[..., tuple[list[str], list[str]]],
) -> None:
    keys, tables = part("Of Sales")
    assert keys == ["at_a_place", "for_later", "of_a_place"]
    assert tables == [
        *("entry", "entry_1", "entry_2", "entry_2a", "later", "note", "place", "place_0", "place_1", "waits")
    ]


def test_a_partition_keeps_its_key_to_a_table_that_comes_whole(
    part: Callable[..., tuple[list[str], list[str]]],
) -> None:
    assert part("entry_2a", "place") == (
        ["of_a_place"],
        ["entry", "entry_2", "entry_2a", "place", "place_0", "place_1"],
    )


def test_a_key_to_a_table_of_which_a_partition_is_left_out_does_not_come(
    part: Callable[..., tuple[list[str], list[str]]],
) -> None:
    assert part("note", "place_0", "waits") == ([], ["note", "place", "place_0", "waits"])
