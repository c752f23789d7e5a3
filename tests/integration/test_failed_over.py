"""A standby that synchronises slots takes the server's place while the log is captured (PostgreSQL 17 and newer)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from replay_ground import Ground, ground, lines, whole
from test_promoted import number, promote

from safepoint.errors import CaptureLost
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server, free_port
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import account, reachable, run_as

TABLE = "create table entry (id int primary key)"
SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "hot_standby_feedback": "on"}


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    programs = reachable(account(), installation(request.param))
    with Server.create(tmp_path / "pg", programs, settings=SETTINGS) as own:
        with connect(own.target) as connection:
            connection.execute("create database shop")
        yield own


class Standby:
    """It streams from the server, and copies its slots when it is asked to."""

    def __init__(self, own: Server) -> None:
        self._own, self.folder, self._port = own, own.data.with_name("standby"), free_port()

    def do(self, program: str, *words: str) -> None:
        done = run_as(account(), [self._own.installation.program(program), *words], env=self._own.target.env())
        assert done.returncode == 0, done.stderr

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self._port, "postgres", self._own.target.user, None, sslmode="disable")

    def synchronised(self, made: Ground) -> bool:
        """Whether the capture's slot is there for good, after one more try."""
        made.drain()  # a slot is kept there once the server's has gone on from where it was first seen
        with connect(self._own.target) as connection:
            connection.execute("select pg_log_standby_snapshot()")
        with connect(self.target) as connection:
            connection.execute("select pg_sync_replication_slots()")
            found = connection.execute("select synced and failover and not temporary from pg_replication_slots")
            return found.fetchall() == [(True,)]

    def received(self) -> None:
        """It has all that was written by now."""
        with connect(self._own.target) as connection:
            end = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
        with connect(self.target) as connection:
            until(lambda: connection.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", end).fetchone())

    def stop(self) -> None:
        self.do("pg_ctl", "-D", str(self.folder), "-m", "fast", "-w", "stop")


@contextmanager
def streaming(own: Server) -> Iterator[Standby]:
    found = Standby(own)
    where = f"dbname=postgres host=127.0.0.1 port={own.port} user={own.target.user}"
    found.do("pg_basebackup", "-D", str(found.folder), "-d", where, "-R", "-C", "-S", "standby", "-c", "fast")
    options = f"-p {found.target.port}"
    found.do("pg_ctl", "-D", str(found.folder), "-o", options, "-w", "-l", str(found.folder / "log"), "start")
    try:
        yield found
    finally:
        if (found.folder / "postmaster.pid").exists():
            found.do("pg_ctl", "-D", str(found.folder), "-m", "immediate", "-w", "stop")


def until(done: object) -> None:
    deadline = time.monotonic() + 30
    while done() not in (True, (True,)):  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("own", [18], indirect=True)
def test_a_standby_with_a_copy_of_the_slot_is_gone_on_with_and_all_is_carried(own: Server, tmp_path: Path) -> None:
    with ground(own.target.on("shop"), tmp_path, TABLE, "select 1", how="logical") as made, streaming(own) as standby:
        number(made, 1, 2)
        until(lambda: standby.synchronised(made))
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
        until(lambda: standby.synchronised(made))
        standby.stop()
        number(made, 3, 6)  # only the server that goes has these
        made.drain()
        promote(own, standby.folder)
        number(made, 13, 14)
        with pytest.raises(CaptureLost, match="standby has taken the server's place that did not have all"):
            made.drain()
