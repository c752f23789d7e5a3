"""A standby that synchronises slots takes the server's place while the log is captured (PostgreSQL 17 and newer)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from replay_ground import ground, lines, whole
from streaming_standby import promote, streaming, until
from test_promoted import number

from safepoint.errors import CaptureLost
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.unprivileged import account, reachable

TABLE = "create table entry (id int primary key)"
SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "hot_standby_feedback": "on"}


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    programs = reachable(account(), installation(request.param))
    with Server.create(tmp_path / "pg", programs, settings=SETTINGS) as own:
        with connect(own.target) as connection:
            connection.execute("create database shop")
        yield own


@pytest.mark.parametrize("own", [18], indirect=True)
def test_a_standby_with_a_copy_of_the_slot_is_gone_on_with_and_all_is_carried(own: Server, tmp_path: Path) -> None:
    with ground(own.target.on("shop"), tmp_path, TABLE, "select 1", how="logical") as made, streaming(own) as standby:
        number(made, 1, 2)
        until(lambda: standby.synchronised(made.drain))
        number(made, 3, 4)
        made.drain()
        number(made, 5, 6)  # committed, and not read yet
        standby.received()
        standby.stop()
        promote(own, standby.folder)
        number(made, 7, 8)
        made.drain()
        number(made, 9, 9)
        outcome = made.carry()
        assert (outcome.carried, outcome.put_aside) == (9, 0), lines(outcome, "put_aside")
        whole(made, outcome)


@pytest.mark.parametrize("own", [17], indirect=True)
def test_one_that_lacks_what_was_read_gives_its_places_out_again_and_is_not_gone_on_with(
    own: Server, tmp_path: Path
) -> None:
    """Transactions are known by where they stand in the log: new ones there would pass for those that were read."""
    with ground(own.target.on("shop"), tmp_path, TABLE, "select 1", how="logical") as made, streaming(own) as standby:
        number(made, 1, 2)
        until(lambda: standby.synchronised(made.drain))
        standby.stop()
        number(made, 3, 6)  # only the server that goes has these
        made.drain()
        promote(own, standby.folder)
        number(made, 13, 14)
        with pytest.raises(CaptureLost, match="standby has taken the server's place that did not have all"):
            made.drain()
