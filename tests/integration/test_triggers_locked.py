"""Capture by triggers, while somebody has a partition to himself in a transaction that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import LAUNCH

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm, drain
from safepoint.wayback.capture.spool import read_changes

PARTED = """
create table part (id int, kind text) partition by list (kind);
create table part_a partition of part for values in ('a');
create table part_b partition of part for values in ('b') partition by range (id);
create table part_b1 partition of part_b for values from (1) to (9);
"""


@pytest.mark.timeout(30)
def test_a_drain_does_not_wait_for_a_partition_that_is_being_emptied(database: Target, tmp_path: Path) -> None:
    with connect(database) as connection:
        connection.execute(PARTED)
    facts = arm(database, LAUNCH, "triggers")
    try:
        with connect(database) as connection, connect(database, autocommit=False) as other:
            connection.execute("insert into part values (1, 'a'), (2, 'b')")
            other.execute("truncate part_b1")
            assert drain(database, facts, tmp_path / "spool").complete
            other.commit()
            connection.execute("truncate part")
            assert drain(database, facts, tmp_path / "spool").complete
        found = [(one.table, one.action) for one in read_changes(tmp_path / "spool")]
        assert found[:2] == [("public.part_a", "insert"), ("public.part_b1", "insert")]
        assert {one for one in found[3:] if one[1] == "truncate"} >= {
            ("public.part_a", "truncate"),
            ("public.part_b1", "truncate"),
        }
    finally:
        disarm(database, facts)
