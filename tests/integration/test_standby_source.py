"""A standby as the source of snapshots: equal where it is level, and told where it is not."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from awkward import run, snap
from postgres_servers import FOLDER

from safepoint.backup import snapshot
from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.errors import DatabaseError
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import account, run_as


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and a standby that follows it."""
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    made = [Server.create(parent / name, installation(17), password="only-for-tests") for name in ("first", "second")]
    primary, standby = made
    try:
        login = primary.start().target
        shutil.rmtree(standby.data)
        words = [primary.installation.program("pg_basebackup"), "-D", str(standby.data), "-R", "-c", "fast"]
        words += ["-h", login.host, "-p", str(login.port), "-U", login.user]
        assert run_as(account(), words, env={"PGPASSWORD": "only-for-tests"}).returncode == 0
        yield primary, standby.start()
    finally:
        for server in reversed(made):
            server.remove()
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def shop(pair: tuple[Server, Server]) -> Iterator[tuple[Target, Target]]:
    """A database on the primary, and the same on the standby."""
    primary, standby = (server.target for server in pair)
    run(primary, "create database shop")
    run(primary.on("shop"), "create table entry (id int)", "insert into entry select generate_series(1, 100)")
    _level(primary, standby)
    try:
        yield primary.on("shop"), standby.on("shop")
    finally:
        run(standby, "select pg_wal_replay_resume() where pg_is_wal_replay_paused()")
        run(primary, "drop database shop with (force)")


def _level(primary: Target, standby: Target) -> None:
    with connect(primary) as there, connect(standby) as here:
        (written,) = there.execute("select pg_current_wal_lsn()::text").fetchone() or ("",)
        while here.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone() != (True,):
            time.sleep(0.05)


def test_what_a_standby_has_is_proven(pair: tuple[Server, Server], shop: tuple[Target, Target], tmp_path: Path) -> None:
    folder = snap(shop[1], pair[1], tmp_path / "snapshots")
    assert len(read_manifest(folder).notes) == len(snapshot.GENERAL)
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 100


def test_a_standby_that_is_behind_its_primary_says_so(
    pair: tuple[Server, Server], shop: tuple[Target, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_BEHIND", timedelta(0))
    run(shop[1], "select pg_wal_replay_pause()")
    run(shop[0], "insert into entry values (101)")
    with connect(shop[1]) as connection:
        while connection.execute("select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()").fetchone() != (True,):
            time.sleep(0.05)
    manifest = read_manifest(snap(shop[1], pair[1], tmp_path / "snapshots"))
    assert "not level with its primary" in manifest.notes[-1]
    assert manifest.fingerprint.rows == 100


@pytest.mark.parametrize("what", ["unlogged table fleeting (i int)", "unlogged sequence fleeting"])
def test_what_no_standby_has_is_asked_of_the_primary(
    pair: tuple[Server, Server], shop: tuple[Target, Target], tmp_path: Path, what: str
) -> None:
    run(shop[0], f"create {what}")
    _level(*shop)
    with pytest.raises(DatabaseError, match="during recovery") as caught:
        snap(shop[1], pair[1], tmp_path / "snapshots")
    assert "take the snapshot from the primary" in (caught.value.remedy or "")


def test_a_conflict_that_ends_who_holds_the_snapshot_is_told_as_one(
    pair: tuple[Server, Server], shop: tuple[Target, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does nothing meanwhile, so it is the first to go; the others only miss what it held."""
    run_globals = snapshot.run_globals
    holding = "select count(*) from pg_stat_activity where application_name = 'safepoint fingerprint'"

    def then_vacuumed(*words: Any) -> None:
        run_globals(*words)
        run(shop[0], "delete from entry where id < 50", "vacuum entry")
        with connect(shop[1].on("postgres")) as connection:
            while connection.execute(holding).fetchone() != (0,):
                time.sleep(0.05)

    monkeypatch.setattr(snapshot, "run_globals", then_vacuumed)
    run(shop[1], "alter system set max_standby_streaming_delay = 0", "select pg_reload_conf()")
    try:
        with pytest.raises(DatabaseError, match="conflict with recovery") as caught:
            snap(shop[1], pair[1], tmp_path / "snapshots")
    finally:
        run(shop[1], "alter system reset max_standby_streaming_delay", "select pg_reload_conf()")
    assert "hot_standby_feedback" in (caught.value.remedy or "")
