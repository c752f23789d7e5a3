"""A table that is emptied or rewritten once the instant of a snapshot is fixed: its rows of then can be read by nobody.

Neither TRUNCATE nor a rewriting ALTER TABLE obeys snapshots (https://www.postgresql.org/docs/current/mvcc-caveats.html):
a dump and a fingerprint that come later both find it empty, and would be equal.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from at_the_instant import is_not_taken
from awkward import run

from safepoint.backup.contents import reading
from safepoint.backup.fingerprint import export, take
from safepoint.errors import DatabaseError
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ROWS = "create table t (a int, b text); insert into t select n, 'row' from generate_series(1, 50) n"
CHANGES = (
    "truncate t; insert into t select n, 'another' from generate_series(1, 60) n",
    "alter table t alter a type bigint",
)


@pytest.mark.parametrize("change", CHANGES, ids=["filled-anew", "another-type"])
def test_a_table_without_its_rows_of_that_instant_is_no_snapshot(
    database: Target, server: Server, tmp_path: Path, change: str
) -> None:
    run(database, ROWS)
    is_not_taken(database, server, tmp_path, change, r"public\.t .*emptied or rewrote")


def test_a_table_that_was_packed_has_all_its_rows(database: Target) -> None:
    run(database, ROWS)
    with reading(database) as connection:
        before = take(database, snapshot=export(connection))
        run(database, "vacuum full t")
        assert take(database, snapshot=export(connection)).tables == before.tables


@pytest.mark.parametrize("having", ["", "create index on t (b)"])
def test_a_table_that_is_dropped_then_is_no_doubt_about_the_server(database: Target, having: str) -> None:
    run(database, ROWS, *([having] if having else []))
    with reading(database) as connection:
        snapshot = export(connection)
        run(database, "drop table t")
        with pytest.raises(DatabaseError) as raised:
            take(database, snapshot=snapshot)
    assert "ropped" in (raised.value.remedy or "")
