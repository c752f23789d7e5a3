"""Who writes in another database of the server while the gate before the window looks: the slot waits for it."""

from __future__ import annotations

import pytest
from postgres_servers import drop_database, fresh_database

from safepoint.launch.verbs import gates
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture import slot


def test_the_gate_asks_where_a_transaction_of_another_database_would_end_the_launch_in_its_window(
    server: Server, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fresh_database(server)
    try:
        with connect(database) as looking, connect(other, autocommit=False) as busy:
            busy.execute("create table job (id int)")
            assert slot.staying_open(looking) == []  # it is young: it will have ended
            monkeypatch.setattr(slot, "MAKE_SECONDS", 0.0)
            ((who, age),) = slot.staying_open(looking)
            assert who == f"pid {busy.info.backend_pid} of {other.user} in {other.dbname}" and age > 0
            ((verdict, why),) = gates.staying_reasons([(who, 2400.0), ("pid 1 of etl in warehouse", 20.0)])
            assert verdict == "inconclusive" and f"for 40 min and is open ({who}, and 1 more)" in why
            busy.rollback()
            with connect(database, autocommit=False) as own:  # the fence ends this one
                own.execute("create table job (id int)")
                assert slot.staying_open(looking) == []
            assert gates.staying_reasons([]) == []
    finally:
        drop_database(other)
