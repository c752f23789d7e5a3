"""Someone holds tables of the live database while a launch looks at it before its window."""

from __future__ import annotations

import time

import pytest

from safepoint.errors import LockNotAvailable
from safepoint.launch.wayback.proof_standing import read_tables
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.twin import choice


@pytest.mark.timeout(60)
def test_neither_the_choice_of_a_twin_nor_the_gate_waits_for_a_table_without_a_limit(database: Target) -> None:
    with connect(database) as connection:
        connection.execute("create table item (id serial, what text); insert into item select generate_series(1, 5000)")
        connection.execute("vacuum item")
        assert choice.measure(connection).keyless_bytes > 0 and "public.item" in read_tables(database).tables
    with connect(database, autocommit=False) as holder, connect(database) as connection:
        holder.execute("lock table item in access exclusive mode")
        began = time.monotonic()
        found = choice.measure(connection)
        assert found.keyless == ("public.item",) and found.keyless_bytes > 0
        with pytest.raises(LockNotAvailable, match="a lock was not had in time"):
            read_tables(database)
        assert time.monotonic() - began < 30
