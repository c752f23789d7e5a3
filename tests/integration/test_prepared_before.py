"""A prepared transaction that nobody decides is told at the gate, and not once the site is closed."""

from __future__ import annotations

import psycopg
import pytest

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import obstacles


def test_a_prepared_transaction_that_does_not_go_by_itself_is_in_the_fence_s_way(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(**database.conninfo(), autocommit=True) as session:
        session.execute("create table item (id int)")
        for statement in ("begin", "insert into item values (1)", "prepare transaction 'orphan of a crash'"):
            session.execute(statement)
    try:
        assert obstacles.in_the_way(database) is None  # one that is just being decided
        monkeypatch.setattr(obstacles, "_DECIDED_SECONDS", 0.0)
        said = obstacles.in_the_way(database)
        assert said is not None and "orphan of a crash" in said and "COMMIT PREPARED" in said
    finally:
        with connect(database) as connection:
            connection.execute("rollback prepared 'orphan of a crash'")
    assert obstacles.in_the_way(database) is None
