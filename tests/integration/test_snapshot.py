"""Snapshots: complete or not there at all, and of one instant although others write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from awkward import run
from elsewhere import Elsewhere
from psycopg import sql

from safepoint.backup.fingerprint import compare
from safepoint.backup.manifest import read_manifest, verify_files
from safepoint.backup.proof import prove, read_proof, restored
from safepoint.backup.snapshot import take_snapshot
from safepoint.errors import CommandFailed, DatabaseError, Interrupted, ProofFailed, Refused, SafepointError
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ROWS = "create table t as select n, md5(n::text) as x from generate_series(1, {}) n"


def snap(target: Target, folder: Path, **more: object) -> Path:
    """Take a snapshot `s` with the tools of PostgreSQL 17."""
    settings = {"installation": installation(17), "snapshot_id": "s", "launch_id": "launch-1", "jobs": 2} | more
    host = settings.pop("host", None) or Here("here", folder)
    take_snapshot(target, host, folder=folder, **settings)  # type: ignore[arg-type]
    return folder / str(settings["snapshot_id"])


def test_a_snapshot_says_what_it_is(database: Target, tmp_path: Path) -> None:
    run(database, ROWS.format(100))
    folder = snap(database, tmp_path)
    manifest = verify_files(folder)
    assert manifest.launch_id == "launch-1"
    assert manifest.fingerprint.tables["public.t"].rows == 100
    assert manifest.source.database == database.dbname
    assert (
        manifest.total_bytes
        == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) - (folder / "manifest.json").stat().st_size
    )
    assert {"globals.sql", "database.sql", "archive/toc.dat"} <= set(manifest.files)
    assert (folder.stat().st_mode & 0o077) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_no_password_is_in_any_file_of_a_snapshot(database: Target, tmp_path: Path) -> None:
    assert database.password is not None
    run(database, "create role secretive login password 'very-secret'")
    try:
        folder = snap(database, tmp_path)
    finally:
        run(database, "drop role secretive")
    text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"CREATE ROLE secretive" in text
    for secret in (database.password.encode(), b"very-secret", b"SCRAM-SHA-256$"):
        assert secret not in text


def test_writers_during_the_dump_do_not_make_it_look_bad(database: Target, tmp_path: Path) -> None:
    run(
        database,
        "create table t (id bigint generated always as identity, x text)",
        "insert into t (x) select 'a' from generate_series(1, 200000)",
    )
    stop = threading.Event()

    def write() -> None:
        with connect(database) as connection:
            while not stop.is_set():
                connection.execute("insert into t (x) values ('b')")
                connection.execute("update t set x = 'c' where id = (random() * 1000)::int")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.1)
        folder = snap(database, tmp_path)
    finally:
        stop.set()
        writer.join()
    sequence = read_manifest(folder).fingerprint.sequences["public.t_id_seq"]
    assert sequence.until is not None and sequence.until[0] > sequence.last
    proof = prove(folder, scratch_parent=tmp_path / "scratch")
    assert proof.rows >= 200000


CHANGES = {
    "a role goes": ("drop owned by passing_by", "drop role passing_by"),
    "a role's setting": ("alter role standing_by set work_mem to '9MB'",),
    "a function": ("create or replace function f() returns int language sql as 'select 2'",),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_a_long_dump_goes_on_does_not_make_it_look_bad(
    database: Target, tmp_path: Path, change: str
) -> None:
    """Roles are not dumped by the snapshot, and functions' definitions not read by it: they are read when it begins."""
    run(database, "drop role if exists passing_by", "drop role if exists standing_by")
    run(
        database,
        "create table t as select 1 as x",
        "create table u (x int)",
        "create role passing_by",
        "create role standing_by",
        "grant select on u to passing_by, standing_by",
        "create function f() returns int language sql as 'select 1'",
    )
    waiting = """
        select count(distinct application_name) from pg_stat_activity
        where datname = current_database() and application_name like 'safepoint %' and wait_event = 'relation'
    """
    try:
        with connect(database, autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
            holder.execute("lock table t in access exclusive mode")
            taking = pool.submit(snap, database, tmp_path)
            with connect(database) as looker:
                while looker.execute(waiting.encode()).fetchone() != (2,):  # the dump, and the hashing of rows
                    assert not taking.done()
                    time.sleep(0.02)
            run(database, *CHANGES[change])
            holder.rollback()
            folder = taking.result()
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1
    finally:
        run(database, "drop table u", "drop role if exists passing_by", "drop role standing_by")


def test_an_empty_database_is_a_good_snapshot(any_database: Target, any_server: Server, tmp_path: Path) -> None:
    folder = snap(any_database, tmp_path, installation=any_server.installation)
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 0


def test_what_a_stream_brings_is_as_good(database: Target, tmp_path: Path) -> None:
    run(database, ROWS.format(1000), "create index on t (x)")
    folder = snap(database, tmp_path, host=Elsewhere(installation(17).bin_dir))
    assert (folder / "archive.dump").is_file()
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1000


def faults() -> dict[str, tuple[type[SafepointError], str]]:
    return {
        "wrong password": (DatabaseError, "password"),
        "no such host": (DatabaseError, "connect"),
        "no such name": (DatabaseError, "resolver"),
        "no such database": (DatabaseError, "does not exist"),
        "unreadable table": (SafepointError, "permission denied|public.t"),
        "unreadable sequence": (SafepointError, "permission denied for sequence"),
        "older tools": (CommandFailed, "server version"),
        "a lock": (Interrupted, "order"),
    }


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.replace(" ", "-"))
def test_a_dump_that_fails_leaves_nothing_and_says_why(
    database: Target, tmp_path: Path, fault: str, request: pytest.FixtureRequest
) -> None:
    kind, words = faults()[fault]
    run(
        database,
        ROWS.format(10),
        "drop role if exists poor_dumper",
        "create role poor_dumper login password 'poor-but-honest'",
    )
    request.addfinalizer(lambda: run(database, "drop role if exists poor_dumper"))
    target, more = database, {}
    blocker = connect(database, autocommit=False)
    if fault == "wrong password":
        target = database.login("postgres", "wrong")
    elif fault == "no such host":
        target = Target("127.0.0.1", 9, "x", "postgres")
    elif fault == "no such name":
        target = Target("nowhere.invalid", 5432, "x", "postgres")
    elif fault == "no such database":
        target = database.on("not_there")
    elif fault == "unreadable table":
        target = database.login("poor_dumper", "poor-but-honest")
    elif fault == "unreadable sequence":
        run(database, "create sequence s; grant select on t to poor_dumper")
        request.addfinalizer(lambda: run(database, "drop owned by poor_dumper"))
        target = database.login("poor_dumper", "poor-but-honest")
    elif fault == "older tools":
        try:
            more = {"installation": installation(15)}
        except DatabaseError:
            pytest.skip("this machine has no PostgreSQL 15")
    elif fault == "a lock":
        blocker.execute("lock table t in access exclusive mode")
        began = time.monotonic()
        more = {"cancelled": lambda: time.monotonic() - began > 0.5}
    with blocker, pytest.raises(kind, match=words) as caught:
        snap(target, tmp_path, **more)
    assert "only-for-tests" not in str(caught.value.as_json())
    assert ("pg_read_all_data" in str(caught.value.remedy)) == fault.startswith("unreadable")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_stops_during_the_dump_leaves_nothing(tmp_path: Path) -> None:
    with Server.create(tmp_path / "pg", installation(17), settings={"fsync": "off"}) as server:
        run(server.target, ROWS.format(1_000_000))

        def strike() -> bool:
            if list((tmp_path / "snapshots").glob("*.partial/archive")):
                server.stop("immediate")
            return False

        with pytest.raises(SafepointError):
            snap(server.target, tmp_path / "snapshots", cancelled=strike)
    assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_a_killed_conductor_leaves_no_folder_that_looks_like_a_snapshot(
    database: Target, tmp_path: Path, how: signal.Signals
) -> None:
    run(database, ROWS.format(50_000))
    code = f"""
        from pathlib import Path
        from safepoint.backup.snapshot import take_snapshot
        from safepoint.hosts.here import Here
        from safepoint.postgres.binaries import installation
        from safepoint.postgres.target import Target
        import os
        target = Target({database.host!r}, {database.port}, {database.dbname!r}, "postgres", os.environ["TESTPW"])
        print("go", flush=True)
        take_snapshot(target, Here("here", Path(".")), installation=installation(17), folder=Path({str(tmp_path)!r}),
                      snapshot_id="s", launch_id=None, jobs=1)
    """
    holder = connect(database, autocommit=False)
    holder.execute("lock table t in access exclusive mode")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TESTPW": database.password or ""},
        # Whoever runs the tests in the background of a shell ignores SIGINT, and so would this child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # The dump waits for a lock that is held here, so that it is certainly under way when the signal comes.
    waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    with connect(database) as looker:
        while not looker.execute(waiting).fetchone() and time.monotonic() < deadline:
            time.sleep(0.01)
    process.send_signal(how)
    holder.close()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (tmp_path / "s").exists()
    # Taking it again under the same id clears what is left of the first.
    folder = snap(database, tmp_path)
    assert verify_files(folder).fingerprint.rows == 50_000
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_id_is_used_once(database: Target, tmp_path: Path) -> None:
    snap(database, tmp_path)
    before = (tmp_path / "s" / "manifest.json").read_bytes()
    with pytest.raises(Refused, match="already"):
        snap(database, tmp_path)
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before


def test_progress_is_told(database: Target, tmp_path: Path) -> None:
    run(database, ROWS.format(1000))
    told = []
    folder = snap(database, tmp_path, report=told.append)
    prove(folder, scratch_parent=tmp_path / "scratch", report=told.append)
    assert {progress.what for progress in told} >= {"fingerprint", "verify files", "restore"}
    assert read_proof(folder) is not None


def test_a_restored_snapshot_can_be_used_and_is_gone_afterwards(database: Target, tmp_path: Path) -> None:
    run(database, ROWS.format(10))
    folder = snap(database, tmp_path)
    with restored(folder, scratch_parent=tmp_path / "scratch") as copy, connect(copy.target) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (10,)
        assert copy.target.dbname == database.dbname
        assert compare(copy.manifest.fingerprint, copy.manifest.fingerprint) == ()
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(ProofFailed):
        verify_files(tmp_path)


def test_settings_of_the_database_that_are_made_for_pages_hinder_no_dump_and_no_proof(
    database: Target, tmp_path: Path
) -> None:
    """Timeouts of a few milliseconds, and a role that its sessions act by and that may read nothing."""
    run(database, ROWS.format(20_000))
    role = f"app_{time.monotonic_ns()}"
    names = {"role": sql.Identifier(role), "name": sql.Identifier(database.dbname)}
    with connect(database.on("postgres")) as admin:
        admin.execute(sql.SQL("create role {role}").format(**names))
        timeouts = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
        timeouts += ["transaction_timeout"]
        try:
            for one in timeouts:
                words = sql.SQL("alter database {name} set {one} = '3ms'").format(one=sql.Identifier(one), **names)
                admin.execute(words)
            admin.execute(sql.SQL("alter database {name} set role = {role}").format(**names))
            folder = snap(database, tmp_path)
            assert prove(folder, scratch_parent=tmp_path / "scratch").tables == 1
            admin.execute(sql.SQL("alter role {role} login superuser password 'x'").format(**names))
            admin.execute(sql.SQL("alter role {role} set role = 'pg_read_all_data'").format(**names))
            with connect(database.login(role, "x")) as connection:  # one of the login's own: so it was meant
                assert connection.execute("select current_user").fetchone() == ("pg_read_all_data",)
        finally:
            for word in ("role", *timeouts):
                admin.execute(sql.SQL("alter database {name} reset {one}").format(one=sql.Identifier(word), **names))
            admin.execute(sql.SQL("drop role {role}").format(**names))
