"""What the fence of a rollback would refuse is asked about while the site is open, and not once it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from replay_ground import RELAX, RELAXED, SHOP, Ground, ground
from test_carried_before import Rollback

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import obstacles

FEED = """
create subscription feed connection 'host=127.0.0.1 port=1 dbname=x' publication told
with (connect = false, slot_name = none, enabled = false)
"""


@contextmanager
def prepared(live: Target) -> Iterator[None]:
    with psycopg.connect(**live.conninfo(), autocommit=True) as session:  # type: ignore[arg-type]
        session.execute("begin; insert into customer (id, name) values (7, 'x'); prepare transaction 'orphan'")
    try:
        yield
    finally:
        with connect(live) as connection:
            connection.execute("rollback prepared 'orphan'")


@contextmanager
def read_by_a_consumer(live: Target) -> Iterator[None]:
    words = {**live.conninfo(), "replication": "database", "application_name": "debezium"}
    with psycopg.connect(**words, autocommit=True):  # type: ignore[arg-type]
        yield


@contextmanager
def fed(live: Target) -> Iterator[None]:
    with connect(live) as connection:
        connection.execute(FEED)
        connection.execute("alter subscription feed set (slot_name = feed)")
        connection.execute("alter subscription feed enable")
        try:
            yield
        finally:
            connection.execute("alter subscription feed disable")
            connection.execute("alter subscription feed set (slot_name = none)")
            connection.execute("drop subscription feed")


@pytest.mark.parametrize(
    ("held", "said"),
    [(prepared, "orphan"), (read_by_a_consumer, "debezium"), (fed, "subscriptions write")],
    ids=["prepared", "consumer", "subscription"],
)
def test_what_holds_the_database_is_asked_about_before_the_site_is_closed(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: object, said: str
) -> None:
    monkeypatch.setattr(obstacles, "_DECIDED_SECONDS", 0.0)
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        rollback = before_its_swap(made, monkeypatch)
        with held(made.live):  # type: ignore[operator]
            found = rollback.done("back-ahead", "carry-ahead")
            assert found.verdict == "inconclusive" and said in found.summary, found
            assert "the site is open" in found.summary and "`safepoint go` closes" in found.summary
        assert rollback.done("back-ahead", "carry-ahead").verdict == "pass"


def before_its_swap(made: Ground, monkeypatch: pytest.MonkeyPatch) -> Rollback:
    rollback = Rollback(made, monkeypatch)
    database = rollback.plan.database.model_copy(update={"name": made.live.dbname})
    rollback.plan = rollback.plan.model_copy(update={"database": database})
    return rollback
