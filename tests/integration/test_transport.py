"""How a dump reaches us: as a poor login, against the role's own timeouts, from a standby, over a link that breaks."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from awkward import run
from broken_link import BrokenLink, broken_link
from elsewhere import Elsewhere
from postgres_servers import FOLDER, Servers, has_postgres
from small_disk import small_disk
from ssh_server import SSHD, ssh_server
from standby_server import primary_and_standby

from safepoint.backup.dumping import dump_error
from safepoint.backup.fingerprint import take
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.backup.snapshot import take_snapshot
from safepoint.errors import CommandFailed, Interrupted, ProofFailed, SafepointError
from safepoint.hosts import open_host
from safepoint.hosts.command import Command
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import account
from safepoint.progress import Progress

READER = "poor_but_honest"


def snap(target: Target, folder: Path, host: Here | None = None, version: int = 17) -> Path:
    take_snapshot(
        target,
        host or Here("here", Path(folder)),
        installation=installation(version),
        folder=folder / "snapshots",
        snapshot_id="s",
        launch_id=None,
    )
    return folder / "snapshots" / "s"


@pytest.fixture
def reader(database: Target) -> Iterator[Target]:
    """A login that may read all tables and nothing else, whose own settings end whatever takes longer than no time."""
    run(
        database,
        f"drop role if exists {READER}",
        f"create role {READER} login password '{READER}' in role pg_read_all_data",
        *(
            f"alter role {READER} set {timeout} = '150ms'"
            for timeout in (
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "idle_session_timeout",
                "transaction_timeout",
            )
        ),
        f"alter role {READER} set lock_timeout = '1ms'",
        "create table t as select n, md5(n::text) from generate_series(1, 300000) n",
        "create sequence s start 7",
        "create schema other create table u (id int)",
    )
    try:
        yield database.login(READER, READER)
    finally:
        run(database, f"drop role {READER}")


def test_a_login_that_may_only_read_is_enough_and_its_timeouts_end_nothing(reader: Target, tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    began = time.monotonic()
    snapshot = snap(reader, tmp_path)
    assert time.monotonic() - began > 0.15  # or nothing was tried
    assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows == 300_000


WITHOUT_MORE = {
    "policies": ("alter table t enable row level security", "BYPASSRLS"),
    "large objects": ("select lo_from_bytea(0, 'a')", "GRANT SELECT ON LARGE OBJECT"),
}


@pytest.mark.parametrize("what", WITHOUT_MORE, ids=lambda what: what.replace(" ", "-"))
def test_what_the_right_to_read_all_does_not_cover_is_told_with_the_one_that_does(
    reader: Target, database: Target, tmp_path: Path, what: str
) -> None:
    statement, remedy = WITHOUT_MORE[what]
    run(database, statement)
    with pytest.raises(SafepointError) as caught:
        snap(reader, tmp_path)
    assert remedy in str(caught.value.remedy)


def test_a_conflict_on_a_standby_is_told_as_one(database: Target) -> None:
    """Of either kind: a query that is cancelled, a session that is ended (documentation, 27.4.2)."""
    for said in ("ERROR:  canceling statement", "FATAL:  terminating connection"):
        failed = CommandFailed(f"pg_dump failed: {said} due to conflict with recovery", subject="pg_dump")
        assert "hot_standby_feedback" in str(dump_error(failed, database).remedy)


def test_a_session_of_ours_may_be_idle_for_longer_than_its_role_may(reader: Target) -> None:
    with connect(reader) as connection:
        connection.execute("begin")
        time.sleep(0.4)
        connection.execute("commit")
        time.sleep(0.4)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_session_of_ours_waits_for_a_lock_as_long_as_it_was_told_to(reader: Target, database: Target) -> None:
    """Two drains at once, say: the second one waits for the first, whatever the role's own patience is."""
    with connect(database) as holder, connect(reader) as waiting, ThreadPoolExecutor(1) as beside:
        holder.execute("select pg_advisory_lock(7)")
        got = beside.submit(waiting.execute, "select pg_advisory_lock(7)")
        time.sleep(0.3)
        holder.execute("select pg_advisory_unlock(7)")
        got.result()
    with connect(reader, lock_timeout=2) as connection:
        assert connection.execute("show lock_timeout").fetchone() == ("2s",)


@pytest.fixture(scope="module")
def standby() -> Iterator[tuple[Target, Target]]:
    """A primary and its standby, by streaming replication."""
    with primary_and_standby() as both:
        yield both


def test_a_standby_is_dumped_like_its_primary(standby: tuple[Target, Target], tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    primary, other = standby
    run(primary, "create table t as select n, md5(n::text) from generate_series(1, 5000) n", "create sequence s")
    position = "select pg_current_wal_lsn()::text"
    with connect(primary) as writer, connect(other) as reader:
        (written,) = writer.execute(position).fetchall()[0]
        behind = "select pg_last_wal_replay_lsn() < %s::pg_lsn"
        while reader.execute(behind, [written]).fetchone() == (True,):
            time.sleep(0.02)
    snapshot = snap(other, tmp_path)
    proof = prove(snapshot, scratch_parent=tmp_path / "scratch")
    assert proof.rows == 5000 and proof.digest == take(primary).digest


def test_what_a_standby_does_not_have_is_told(standby: tuple[Target, Target], tmp_path: Path) -> None:
    primary, other = standby
    run(primary, "create unlogged table fleeting (id int)")
    try:
        with connect(other) as reader:
            while reader.execute("select to_regclass('fleeting')").fetchone() == (None,):
                time.sleep(0.02)
        with pytest.raises(SafepointError, match="fleeting") as caught:
            snap(other, tmp_path)
        assert "primary" in str(caught.value.remedy)
        assert list((tmp_path / "snapshots").iterdir()) == []
    finally:
        run(primary, "drop table fleeting")


def test_a_link_that_breaks_during_the_dump_is_a_failure_and_leaves_nothing(database: Target, tmp_path: Path) -> None:
    run(database, "create table t as select n, repeat(md5(n::text), 4) m from generate_series(1, 400000) n")
    link = BrokenLink(database.port, after=2**40, breaks=0)
    folder = tmp_path / "snapshots"

    def strike() -> None:
        while not any(path.stat().st_size for path in folder.glob("*.partial/archive/*.dat*")):
            time.sleep(0.005)
        link.cut()

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    try:
        with pytest.raises(SafepointError, match=r"dump|snapshot|fingerprint"):
            snap(replace(database, port=link.port), tmp_path)
    finally:
        striker.join(20)
        link.close()
    assert not striker.is_alive() and list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_dump_over_ssh_on_a_link_that_only_trickles_is_followed_with_progress_and_left_at_an_order(
    database: Target, tmp_path: Path
) -> None:
    if SSHD is None:
        pytest.skip("there is no sshd on this machine (Debian: apt-get install openssh-server)")
    run(database, "create table t as select md5(n::text) || md5((-n)::text) m from generate_series(1, 20000) n")
    words: dict[str, Any] = {"installation": installation(17), "folder": tmp_path / "snapshots", "launch_id": None}
    words["tools_folder"] = installation(17).bin_dir
    (tmp_path / "sshd").mkdir()
    with ssh_server(tmp_path / "sshd") as server, broken_link(server.port, rate=400_000) as link:
        host = open_host("db", server.settings(port=link.port), tmp_path)
        seen: list[Progress] = []
        take_snapshot(database, host, snapshot_id="s", report=seen.append, **words)
        sizes = [one.done for one in seen if one.what == "dump"]
        assert sizes == sorted(sizes) and len(set(sizes)) > 2
        assert prove(tmp_path / "snapshots" / "s", scratch_parent=tmp_path / "scratch").rows == 20000
        link.rate = 20_000  # more than half a minute for all of it
        ordered: list[float] = []

        def stop() -> bool:
            begun = next((one for one in seen if one.what == "dump" and one.done), None)
            ordered.extend([time.monotonic()] if begun is not None and not ordered else [])
            return bool(ordered)

        seen.clear()
        with pytest.raises(Interrupted):
            take_snapshot(database, host, snapshot_id="s2", report=seen.append, cancelled=stop, **words)
        assert time.monotonic() - ordered[0] < 8
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["s"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_database_that_is_dropped_during_the_dump_fails_it_and_leaves_nothing(
    server: Server, new_database: Callable[[Server], Target], tmp_path: Path, streamed: bool
) -> None:
    target = new_database(server)
    run(target, "create table t as select n, repeat(md5(n::text), 4) m from generate_series(1, 400000) n")
    folder = tmp_path / "snapshots"

    def strike() -> None:
        while not any(
            path.stat().st_size
            for path in [*folder.glob("*.partial/archive/*.dat*"), *folder.glob("*.partial/archive.dump")]
        ):
            time.sleep(0.005)
        run(target.on("postgres"), f"drop database {target.dbname} with (force)")

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    with pytest.raises(SafepointError) as caught:
        snap(target, tmp_path, Elsewhere(installation(17).bin_dir) if streamed else None)
    striker.join(20)
    said = f"{caught.value} {caught.value.found}"
    # pg_dump tells it in one of three ways: what its session was told, or that the session was gone when it asked, or
    # when it set its encoding.
    signs = ("terminating connection", "closed the connection unexpectedly", "invalid client encoding")
    assert any(sign in said for sign in signs), said
    assert "was the database dropped" in said.lower(), said
    assert not striker.is_alive() and list(folder.iterdir()) == []


class Silent(Here):
    """A host whose programs are cut off without an error: what arrives has no bytes."""

    def stream(self, command: Command, **more: object) -> None:  # type: ignore[override]
        super().stream(Command(("true",)), **more)  # type: ignore[arg-type]


def test_a_stream_that_ends_well_without_a_byte_is_a_failure(database: Target, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="wrote nothing"):
        snap(database, tmp_path, Silent("here", tmp_path))
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_table_that_is_dropped_before_the_dump_reaches_it_fails_it(database: Target, tmp_path: Path) -> None:
    """The snapshot still sees its rows; what could be read is not all that there was, and is not kept."""
    run(database, *(f"create table t{n} as select {n} as n" for n in range(20)))
    holder = connect(database, autocommit=False)
    holder.execute("lock table t7 in access exclusive mode")

    def strike() -> None:
        waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        with connect(database) as looker:
            while len(looker.execute(waiting).fetchall()) < 2:  # the dump and the fingerprint
                time.sleep(0.01)
        holder.execute("drop table t7")
        holder.commit()

    striker = threading.Thread(target=strike, daemon=True)
    striker.start()
    with holder, pytest.raises(SafepointError, match=r"t7|does not exist|could not open relation"):
        snap(database, tmp_path)
    striker.join(20)
    assert not striker.is_alive() and list((tmp_path / "snapshots").iterdir()) == []


def test_a_full_disk_ends_the_dump_and_leaves_nothing(database: Target, tmp_path: Path) -> None:
    run(database, "create table t as select n, md5(n::text) || md5(random()::text) m from generate_series(1, 200000) n")
    with small_disk(tmp_path / "small", 2) as small:
        with pytest.raises(SafepointError) as caught:
            snap(database, small)
        assert "room" in str(caught.value.remedy)
        assert list((small / "snapshots").iterdir()) == []


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 with contrib is not installed")
def test_an_extension_that_the_other_server_lacks_is_named_with_what_to_do(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    """Of the older server's extensions this one is not in the newer one's package."""
    target, other = new_database(servers(15)), servers(17).target
    run(target, "create extension xml2", "create table t (x int)", "insert into t values (1)")
    snapshot = snap(target, tmp_path, version=15)
    with pytest.raises(SafepointError, match="xml2") as caught:
        place(snapshot, other, "lacks_an_extension")
    assert "Install the extension" in str(caught.value.remedy)
    with connect(other) as connection:
        assert not connection.execute("select from pg_database where datname = 'lacks_an_extension'").fetchall()


def test_an_extension_that_the_scratch_of_the_proof_lacks_is_named_with_what_to_install(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    """PostgreSQL 18 finds extensions in folders that only one server knows."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    try:
        (folder / "extension").mkdir()
        (folder / "extension" / "only_here.control").write_text("default_version = '1'\nrelocatable = true\n")
        (folder / "extension" / "only_here--1.sql").write_text("create function only_here() returns int return 7;\n")
        for path in (folder, folder / "extension"):
            path.chmod(0o755)
        target = new_database(servers(18))
        with connect(target) as connection:
            connection.execute("select set_config('extension_control_path', %s, false)", [f"{folder}:$system"])
            connection.execute("create extension only_here")
        snapshot = snap(target, tmp_path, version=18)
        with pytest.raises(ProofFailed, match="only_here") as caught:
            prove(snapshot, scratch_parent=tmp_path / "scratch")
        assert "Install the extension" in str(caught.value.remedy)
    finally:
        shutil.rmtree(folder)


def test_what_stands_in_a_tablespace_is_proven_and_comes_back_without_it(database: Target, tmp_path: Path) -> None:
    place_ = Path(tempfile.mkdtemp(prefix=FOLDER))
    who = account()
    if who.change:
        shutil.chown(place_, who.uid, who.gid)
    run(database, f"create tablespace far location '{place_}'")
    try:
        run(database, "create table t (x int primary key using index tablespace far) tablespace far")
        run(database, "insert into t values (1)")
        tmp_path.chmod(0o711)
        assert prove(snap(database, tmp_path), scratch_parent=tmp_path / "scratch").rows == 1
    finally:
        run(database, "drop table t", "drop tablespace far")
        shutil.rmtree(place_)
