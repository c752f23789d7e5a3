"""Money is written as `lc_monetary` says: under another one it comes back all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from awkward import run, snap
from replay_ground import ground, lines

from safepoint.backup.proof import prove
from safepoint.postgres.binaries import installation
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture import How

GERMAN = "de_DE.UTF-8"


@pytest.fixture
def german(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Server]]:
    """Makes a server on which 12.5 is written `12,50 €`; its locale is made, too, as few machines have it."""
    place = tmp_path_factory.mktemp("locales")
    for folder in (place, *place.parents[:2]):
        folder.chmod(0o755)
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(place / GERMAN)], capture_output=True)
    if made.returncode:
        pytest.skip("this machine cannot make the locale (Debian: apt-get install locales)")
    monkeypatch.setenv("LOCPATH", str(place))
    servers: list[Server] = []

    def start() -> Server:
        settings = {"wal_level": "logical", "lc_monetary": GERMAN}
        folder = tmp_path_factory.mktemp("german") / "server"
        folder.parent.chmod(0o755)
        servers.append(Server.create(folder, installation(17), settings=settings).start())
        run(servers[-1].target, "create database shop")
        return servers[-1]

    yield start
    for server in servers:
        server.remove()


def written(target: Target) -> list[tuple[object, ...]]:
    """As an application reads it."""
    with psycopg.connect(**target.conninfo()) as connection:  # type: ignore[arg-type]
        return connection.execute("select m::text from t order by m").fetchall()


TABLE = "create table t (id int primary key, m money); insert into t values (1, 12.5::numeric::money)"


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_it_is_carried_back(german: Callable[[], Server], tmp_path: Path, how: How) -> None:
    target = german().target.on("shop")
    with ground(target, tmp_path, TABLE, "alter table t add w int", how=how) as made:
        assert written(target) == [("12,50 €",)]
        with psycopg.connect(**target.conninfo()) as application:  # type: ignore[arg-type]
            application.execute("insert into t values (2, 1234567.89::numeric::money)")
            application.execute("update t set m = m * -1 where id = 1")
        outcome = made.carry()
        assert outcome.put_aside == 0, lines(outcome, "put_aside")
        assert written(made.twin) == written(target) == [("-12,50 €",), ("1.234.567,89 €",)]


def test_a_snapshot_of_it_is_proven_on_a_server_that_writes_it_otherwise(
    german: Callable[[], Server], tmp_path: Path
) -> None:
    server = german()
    run(server.target.on("shop"), TABLE)
    folder = snap(server.target.on("shop"), server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1
