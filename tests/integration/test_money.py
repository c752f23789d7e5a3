"""Money is written as `lc_monetary` says: under another one it comes back all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from awkward import run, snap
from postgres_servers import drop_database
from replay_ground import ground, lines

from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.hosts.here import Here
from safepoint.postgres import tools
from safepoint.postgres.binaries import installation
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

GERMAN = "de_DE.UTF-8"


@pytest.fixture(scope="module")
def german_server() -> Iterator[Server]:
    """A server on which 12.5 is written `12,50 €`; its locale is made, too, as few machines have it."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        place = Path(name)
        place.chmod(0o755)  # PostgreSQL runs as another user
        made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(place / GERMAN)], capture_output=True)
        if made.returncode:
            pytest.skip("this machine cannot make the locale (Debian: apt-get install locales)")
        patched.setenv("LOCPATH", str(place))
        settings = {"wal_level": "logical", "lc_monetary": GERMAN}
        with Server.create(place / "server", installation(17), settings=settings) as server:
            yield server


@pytest.fixture
def german(german_server: Server) -> Iterator[Server]:
    """That server, with an empty database for a shop."""
    run(german_server.target, "create database shop")
    try:
        yield german_server
    finally:
        for name in ("shop", "again"):
            drop_database(german_server.target.on(name))


def written(target: Target) -> list[tuple[object, ...]]:
    """As an application reads it."""
    with psycopg.connect(**target.conninfo()) as connection:  # type: ignore[arg-type]  # as in `postgres.connections`
        return connection.execute("select m::text from t order by m").fetchall()


TABLE = "create table t (id int primary key, m money); insert into t values (1, 12.5::numeric::money)"


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_it_is_carried_back(german: Server, tmp_path: Path, how: How) -> None:
    target = german.target.on("shop")
    with ground(target, tmp_path, TABLE, "alter table t add w int", how=how) as made:
        assert written(target) == [("12,50 €",)]
        with psycopg.connect(**target.conninfo()) as application:  # type: ignore[arg-type]  # as in `postgres.connections`
            application.execute("insert into t values (2, 1234567.89::numeric::money)")
            application.execute("update t set m = m * -1 where id = 1")
        outcome = made.carry()
        assert outcome.put_aside == 0, lines(outcome, "put_aside")
        assert written(made.twin) == written(target) == [("-12,50 €",), ("1.234.567,89 €",)]


def test_a_snapshot_of_it_is_proven_on_a_server_that_writes_it_otherwise(german: Server, tmp_path: Path) -> None:
    run(german.target.on("shop"), TABLE)
    folder = snap(german.target.on("shop"), german, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1


def test_a_snapshot_of_before_is_read_as_its_source_wrote_it(
    german: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(german.target.on("shop"), TABLE)
    with monkeypatch.context() as patched:
        patched.setattr(tools, "DUMP_OPTIONS", "")
        folder = snap(german.target.on("shop"), german, tmp_path / "snapshots")
    manifest = read_manifest(folder)
    assert manifest.dumped_with == ""
    run(german.target, "create database again")
    again = german.target.on("again")
    program = installation(17).program("pg_restore")
    command = tools.restore(again, folder / manifest.archive, jobs=1, program=program, dumped_with=manifest.dumped_with)
    Here("here", tmp_path).run(command)
    assert written(again) == [("12,50 €",)]
