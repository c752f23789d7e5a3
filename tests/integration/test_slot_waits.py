"""A slot's making waits for every transaction of the cluster, of other databases too: as long as it was given."""

from __future__ import annotations

import threading

import pytest
from books import LAUNCH, Books, books
from postgres_servers import drop_database, fresh_database

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm


def _arm(site: Books, timeout: float) -> str:
    facts = arm(site.target, LAUNCH, lock_timeout=0.3, timeout=timeout)
    disarm(site.target, facts)
    return facts.mode


def test_a_transaction_of_another_database_is_waited_for_longer_than_for_a_lock(
    server: Server, database: Target
) -> None:
    other = fresh_database(server)
    try:
        with books(database) as site, connect(other, autocommit=False) as busy:
            busy.execute("create table job (id int)")
            with pytest.raises(DatabaseError, match="transactions are open in the cluster") as refusal:
                _arm(site, timeout=0.9)
            assert other.dbname in str(refusal.value.found)
            ends = threading.Timer(1.0, busy.commit)
            ends.start()
            assert _arm(site, timeout=30) == "logical"
            ends.join()
    finally:
        drop_database(other)
