"""A standby takes the server's place while triggers capture: with all that was read, or without the last of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from replay_ground import Ground, ground, lines
from streaming_standby import promote

from safepoint.errors import CaptureLost
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server


@pytest.fixture
def own(server: Server, tmp_path: Path) -> Iterator[Server]:
    with Server.create(
        tmp_path / "pg", server.installation, settings={"fsync": "off", "shared_buffers": "32MB"}
    ) as own:
        with connect(own.target) as connection:
            connection.execute("create database shop")
        yield own


def stopped_at(own: Server) -> Path:
    """The files of a standby that got everything up to here, and nothing later."""
    own.stop()
    standby = own.data.with_name("standby")
    subprocess.run(["cp", "-a", own.data, standby], check=True)
    own.start()
    return standby


def number(made: Ground, first: int, last: int) -> None:
    for value in range(first, last + 1):
        made.write(f"insert into entry values ({value})")


def test_a_standby_that_lacks_what_was_read_is_not_gone_on_with_by_the_ids_of_transactions(
    own: Server, tmp_path: Path
) -> None:
    """It gives the ids that the spool knows to other transactions, which would pass for known."""
    table = "create table entry (id int primary key)"
    with ground(own.target.on("shop"), tmp_path, table, "select 1", how="triggers") as made:
        number(made, 1, 2)
        made.drain()
        number(made, 3, 4)
        standby = stopped_at(own)
        made.drain()
        number(made, 5, 7)
        made.drain()
        promote(own, standby)
        number(made, 15, 20)
        with pytest.raises(CaptureLost, match="standby"):
            made.drain()


def test_a_standby_that_has_all_that_was_read_is_gone_on_with(own: Server, tmp_path: Path) -> None:
    table = "create table entry (id int primary key)"
    with ground(own.target.on("shop"), tmp_path, table, "select 1", how="triggers") as made:
        number(made, 1, 2)
        made.drain()
        number(made, 3, 4)
        promote(own, stopped_at(own))
        number(made, 5, 6)
        made.drain()
        number(made, 7, 7)
        outcome = made.carry()
        assert (outcome.carried, outcome.put_aside) == (7, 0), lines(outcome, "put_aside")
        assert made.old("select array_agg(id order by id) from entry") == [(list(range(1, 8)),)]
