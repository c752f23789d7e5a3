"""What else can go wrong between a dump and its proof: killed programs, full disks, older servers, damaged copies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from awkward import run, snap
from elsewhere import Elsewhere
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import FOLDER, Servers, drop_database, fresh_database, has_postgres
from small_disk import small_disk

from safepoint.backup.manifest import hash_files, read_manifest, verify_files, write_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove, read_proof
from safepoint.backup.snapshot import take_snapshot
from safepoint.errors import DatabaseError, ProofFailed, Refused, SafepointError, ServerAway, Unrestorable
from safepoint.hosts.here import Here
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

NOISE = "create table t as select n, md5(n::text) || md5((-n)::text) as x from generate_series(1, {}) n"


@pytest.fixture
def small() -> Iterator[Path]:
    """A disk of 64 MB, of which a new server takes 40, where servers of another user reach it."""
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    try:
        with small_disk(parent / "small", 64) as folder:
            yield folder
    finally:
        shutil.rmtree(parent)


@pytest.fixture(scope="module")
def noisy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A snapshot whose rows have no room on that disk."""
    target = fresh_database(server)
    run(target, NOISE.format(300_000))
    yield snap(target, server, tmp_path_factory.mktemp("noisy"))
    drop_database(target)


def databases(target: Target) -> set[str]:
    with connect(target.on("postgres")) as connection:
        return {str(row[0]) for row in connection.execute("select datname from pg_database")}


@pytest.mark.parametrize("streamed", [False, True], ids=["folder", "stream"])
def test_a_dump_whose_program_is_killed_is_a_failure_and_leaves_nothing(
    database: Target, tmp_path: Path, streamed: bool
) -> None:
    """As the system does where memory runs out: the conductor lives, `pg_dump` is gone without a word."""
    run(database, NOISE.format(10))
    began = threading.Event()

    def strike() -> None:
        waiting = (
            "select from pg_stat_activity where application_name like 'safepoint dump%' and wait_event = 'relation'"
        )
        with connect(database) as looker:
            while not looker.execute(waiting.encode()).fetchall():
                time.sleep(0.01)
        began.set()
        found = subprocess.run(["pgrep", "-P", str(os.getpid()), "pg_dump"], capture_output=True, text=True, check=True)
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    striker = threading.Thread(target=strike, daemon=True)
    with connect(database, autocommit=False) as holder:
        holder.execute("lock table t in access exclusive mode")
        striker.start()
        with pytest.raises(SafepointError) as caught:
            take_snapshot(
                database,
                Elsewhere(installation(17).bin_dir) if streamed else Here("here", tmp_path),
                installation=installation(17),
                folder=tmp_path / "snapshots",
                snapshot_id="s",
                launch_id=None,
            )
    striker.join(20)
    assert began.is_set() and not striker.is_alive()
    assert "nothing of it was kept" in caught.value.message and caught.value.remedy
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_proof_on_a_full_disk_is_no_verdict_on_the_snapshot_and_asks_for_room(noisy: Path, small: Path) -> None:
    with pytest.raises(ProofFailed) as caught:
        prove(noisy, scratch_parent=small)
    assert "Make room" in str(caught.value.remedy)
    assert read_proof(noisy) is None and list(small.iterdir()) == []


def test_a_proof_stands_when_it_cannot_be_repeated_for_want_of_room(noisy: Path, small: Path, tmp_path: Path) -> None:
    proven = Path(shutil.copytree(noisy, tmp_path / "s"))
    proof = prove(proven, scratch_parent=tmp_path / "scratch")
    with pytest.raises(Unrestorable, match="stands") as caught:
        prove(proven, scratch_parent=small)
    assert "Make room" in str(caught.value.remedy)
    assert read_proof(proven) == proof


def test_a_restore_on_a_full_disk_is_taken_back_and_asks_for_room(server: Server, noisy: Path, small: Path) -> None:
    settings = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0"}
    with Server.create(small / "pg", server.installation, settings=settings) as full:
        run(full.target, "create table before as select 1 as n")
        with pytest.raises(DatabaseError, match="No space left") as caught:
            place(noisy, full.target, "restored")
        assert "Make room" in str(caught.value.remedy) and "removed again" in str(caught.value.found)
        assert "restored" not in databases(full.target)
        run(full.target, "insert into before values (2)")


def test_a_restore_that_takes_its_server_along_says_what_is_left_and_on_the_live_server_is_refused_before(
    server: Server, noisy: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows are logged, it is the log that has no room, and PostgreSQL stops."""
    full = Server.create(small / "pg", server.installation, settings={"fsync": "off"}).start()
    try:
        plan = plan_file(tmp_path, full.target)
        monkeypatch.setenv(PASSWORD_ENV, full.target.password or "none")
        with pytest.raises(Refused, match="no room for the restored database"):
            restore_into(plan, noisy, "restored")
        assert databases(full.target) == {"postgres", "template0", "template1"}
        with pytest.raises(DatabaseError) as caught:
            place(noisy, full.target, "restored")
        assert "room on its disk" in str(caught.value.remedy)
    finally:
        full.remove()


def test_a_server_whose_connections_are_used_up_is_told_and_served_again_when_they_are_free(
    server: Server, tmp_path: Path
) -> None:
    settings = {"max_connections": "6", "superuser_reserved_connections": "0", "fsync": "off"}
    settings |= {"max_wal_senders": "0", "wal_level": "minimal"}
    with Server.create(tmp_path / "pg", server.installation, settings=settings) as busy, ExitStack() as held:
        run(busy.target, NOISE.format(10))
        for _ in range(6):
            held.enter_context(connect(busy.target))
        with pytest.raises(ServerAway, match="too many clients") as caught:
            snap(busy.target, server, tmp_path / "snapshots")
        assert "end idle sessions or raise max_connections" in str(caught.value.remedy)
        held.close()
        nobody_left(busy.target)
        for _ in range(4):  # two are left, which do not do for a dump beside a fingerprint
            held.enter_context(connect(busy.target))
        with pytest.raises(SafepointError, match="too many clients") as failed:
            snap(busy.target, server, tmp_path / "snapshots")
        assert "end idle sessions or raise max_connections" in str(failed.value.remedy)
        assert list((tmp_path / "snapshots").iterdir()) == []
        held.close()
        nobody_left(busy.target)
        snap(busy.target, server, tmp_path / "snapshots")


def nobody_left(target: Target) -> None:
    """Until the server has let go of the sessions that ended, which takes it a moment."""
    deadline = time.monotonic() + 10
    others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    while True:
        with suppress(ServerAway), connect(target) as connection:
            if connection.execute(others).fetchone() == (0,):
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_host_that_takes_the_connection_and_says_nothing_is_given_up_soon(tmp_path: Path, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ServerAway, match="timeout expired") as caught:
            snap(Target("127.0.0.1", silent.getsockname()[1], "x", "postgres"), server, tmp_path / "snapshots")
        assert time.monotonic() - began < 15
    assert "firewall" in str(caught.value.remedy)


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 is not installed")
def test_what_newer_programs_dumped_is_proven_by_a_newer_server_and_restored_into_the_old_one(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    """pg_restore of PostgreSQL 17 sets what 15 does not know: its error is expected, and any other one is told."""
    old = servers(15).target
    target = new_database(servers(15))
    run(target, NOISE.format(100), "create table u as select 1 as x", "create view v as select * from u")
    snapshot = snap(target, servers(17), tmp_path / "snapshots")
    manifest = read_manifest(snapshot)
    assert (manifest.source.server_version_num // 10000, manifest.tool_version.split(".")[0]) == (15, "17")
    assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows == 101
    before = databases(target)
    try:
        assert place(snapshot, old, "from_newer").rows == 101
        assert place(snapshot, old, "from_newer_part", only=("u",)).rows == 1
        assert databases(target) == before | {"from_newer", "from_newer_part"}
    finally:
        run(old, *(f"drop database if exists {name} with (force)" for name in ("from_newer", "from_newer_part")))


ALTERED = {
    "a value": "update t set x = 'other' where n = 7",
    "a sequence": "select setval('s', 99)",
    "an extension": "drop extension hstore",
    "a grant": "revoke select on t from pg_monitor",
    "a large object": "select lo_unlink(oid) from pg_largeobject_metadata",
}


def test_a_copy_that_really_came_out_otherwise_is_named_line_by_line(
    database: Target, server: Server, tmp_path: Path
) -> None:
    """Archive and manifest are whole, and what they restore is not what was there when the fingerprint was taken."""
    run(database, NOISE.format(100), "create sequence s", "create extension hstore", "grant select on t to pg_monitor")
    run(database, "select nextval('s'), lo_from_bytea(0, 'a large object')")
    tmp_path.chmod(0o711)
    snapshot = snap(database, server, tmp_path / "snapshots")
    run(database, *ALTERED.values())
    other = snap(database, server, tmp_path / "snapshots", "other")
    for name in ("archive", "globals.sql", "database.sql"):
        path = snapshot / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        (other / name).rename(path)
    manifest = read_manifest(snapshot)
    (snapshot / "manifest.json").unlink()
    write_manifest(snapshot, replace(manifest, files=hash_files(snapshot)))
    verify_files(snapshot)
    with pytest.raises(ProofFailed) as caught:
        prove(snapshot, scratch_parent=tmp_path / "scratch")
    for words in (
        "table public.t",
        "sequence public.s",
        "extension hstore is missing",
        "relation public.t",
        "large objects",
    ):
        assert words in caught.value.message, words
    assert read_proof(snapshot) is None
