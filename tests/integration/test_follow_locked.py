"""Someone holds a lock on a table of the live database while its changes are carried ahead."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground
from test_follow import standby

from safepoint.errors import DatabaseError, Interrupted
from safepoint.launch.wayback import following
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ordered", [False, True], ids=["no order", "an order comes"])
def test_carrying_ahead_does_not_wait_for_a_lock_that_nobody_gives_back(
    database: Target, tmp_path: Path, ordered: bool
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values ('a')")
        made.drain()
        way_back, stop = standby(made), threading.Event()
        cancelled: Cancelled = stop.is_set if ordered else never
        with connect(made.live, autocommit=False) as holder:
            holder.execute("lock table customer in access exclusive mode")
            threading.Timer(1, stop.set).start()
            began = time.monotonic()
            with pytest.raises(Interrupted if ordered else DatabaseError):
                following.catch_up(way_back, cancelled, rounds=1, enough=0)
            assert time.monotonic() - began < 30
        assert following.catch_up(way_back, never, rounds=1, enough=0) == (1, 1)
