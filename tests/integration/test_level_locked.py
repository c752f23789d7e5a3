"""Someone holds a lock on a table of the live database while its twin is kept level."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from level_ground import LAUNCH, followed, seed

from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.twin import feed

# The large value of a row that an UPDATE left alone has to be looked up in the live row.
LEFT_ALONE = "update item set name = name || 'y' where id = 1"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ordered", [False, True], ids=["no order", "an order comes"])
def test_keeping_level_does_not_wait_for_a_lock_that_nobody_gives_back(
    database: Target, tmp_path: Path, ordered: bool
) -> None:
    with followed(database) as live:
        made = seed(live, tmp_path)
        stop = threading.Event()
        cancelled: Cancelled = stop.is_set if ordered else never
        with made.keeper() as keeper, connect(live, autocommit=False) as holder:
            with connect(live) as writer:
                writer.execute("update item set body = repeat('z', 9000) where id = 1")
                writer.execute(LEFT_ALONE)
            holder.execute("lock table item in access exclusive mode")
            threading.Timer(1, stop.set).start()
            began = time.monotonic()
            with pytest.raises(Interrupted if ordered else DatabaseError):
                keeper.level(cancelled=cancelled)
            assert time.monotonic() - began < 30
            holder.rollback()
        with made.keeper() as keeper:
            assert keeper.level().applied == 2


@pytest.mark.timeout(60)
def test_its_proof_does_not_wait_for_one_either(database: Target, tmp_path: Path) -> None:
    with followed(database) as live:
        made = seed(live, tmp_path)
        with connect(live) as writer:
            writer.execute(LEFT_ALONE)
        with made.keeper() as keeper, feed.instant(live, LAUNCH) as now, connect(live, autocommit=False) as holder:
            holder.execute("lock table item in access exclusive mode")
            with pytest.raises(DatabaseError):
                keeper.level_at(now)
