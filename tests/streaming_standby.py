"""A standby that streams from a server, copies its slots, and takes its place."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server, free_port
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import account, run_as


def promote(own: Server, standby: Path) -> None:
    """It takes the server's place, under the same address."""
    own.stop()
    signal = standby / "standby.signal"
    signal.touch()
    shutil.chown(signal, standby.stat().st_uid, standby.stat().st_gid)
    shutil.rmtree(own.data)
    standby.rename(own.data)
    own.start()
    with connect(own.target) as connection:
        connection.execute("select pg_promote()")
    deadline = time.monotonic() + 20
    while not promoted(own):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def promoted(own: Server) -> bool:
    with connect(own.target) as connection:
        return connection.execute("select pg_is_in_recovery()").fetchone() == (False,)


class Standby:
    """It streams from the server, and copies its slots."""

    def __init__(self, own: Server) -> None:
        self.own, self.folder, self._port = own, own.data.with_name("standby"), free_port()

    def do(self, program: str, *words: str) -> None:
        target = self.own.target
        argv = [self.own.installation.program(program), *words]
        done = run_as(account(), argv, env={**target.env(), **target.secrets()})
        assert done.returncode == 0, done.stderr

    @property
    def target(self) -> Target:
        return replace(self.own.target, port=self._port)

    def synchronised(self, drain: Callable[[], object]) -> bool:
        """Whether the capture's slot is there for good by now."""
        drain()  # a slot is kept there once the server's has gone on from where it was first seen
        with connect(self.own.target) as connection:
            connection.execute("select pg_log_standby_snapshot()")
        with connect(self.target) as connection:
            found = connection.execute("select synced and failover and not temporary from pg_replication_slots")
            return found.fetchall() == [(True,)]

    def received(self) -> None:
        """It has all that was written by now."""
        with connect(self.own.target) as connection:
            end = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
        with connect(self.target) as connection:
            until(lambda: connection.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", end).fetchone())

    def stop(self) -> None:
        self.do("pg_ctl", "-D", str(self.folder), "-m", "fast", "-w", "stop")


@contextmanager
def streaming(own: Server) -> Iterator[Standby]:
    """One that has begun to stream. `own` needs `hot_standby_feedback`, which it gets by its copy."""
    found = Standby(own)
    where = f"dbname=postgres host=127.0.0.1 port={own.port} user={own.target.user}"
    found.do("pg_basebackup", "-D", str(found.folder), "-d", where, "-R", "-C", "-S", "standby", "-c", "fast")
    options = f"-p {found.target.port} -c sync_replication_slots=on"
    found.do("pg_ctl", "-D", str(found.folder), "-o", options, "-w", "-l", str(found.folder / "log"), "start")
    try:
        yield found
    finally:
        if (found.folder / "postmaster.pid").exists():
            found.do("pg_ctl", "-D", str(found.folder), "-m", "immediate", "-w", "stop")


def until(done: Callable[[], object], patience: float = 30) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + patience
    while done() not in (True, (True,)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
