"""Servers of our own: they start, are reachable only as meant, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psycopg
import pytest
from postgres_servers import Servers, has_postgres

from safepoint.errors import DatabaseError
from safepoint.postgres import connections, processes, servers, unprivileged
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch import scratch_server, sweep
from safepoint.postgres.servers import MARKER, Server
from safepoint.postgres.target import Target


@pytest.fixture(autouse=True)
def _by_initdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """No copies (see `ready_clusters`)."""
    monkeypatch.setattr(servers, "run_as", unprivileged.run_as)


def test_a_session_server_answers_with_its_version(any_server: Server) -> None:
    with connect(any_server.target) as connection:
        version = connection.execute("show server_version_num").fetchone()
    assert version is not None
    assert int(version[0]) // 10000 == any_server.installation.major


def test_the_database_fixture_gives_an_empty_database(database: Target) -> None:
    with connect(database) as connection:
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_a_peer_that_went_without_a_word_is_given_up_within_a_minute(database: Target) -> None:
    with connect(database) as connection, socket.socket(fileno=os.dup(connection.fileno())) as link:
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, every, count = (
            link.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + every * count <= 60
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000


def test_a_scratch_server_wants_its_password_and_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_server(tmp_path, 17) as server:
        pid = server.pid
        assert pid is not None and server.running()
        with pytest.raises(DatabaseError, match="password"):
            connect(server.target.login("postgres", "wrong"))
        with connect(server.target) as connection:
            assert connection.execute("show fsync").fetchone() == ("off",)
    assert processes.birth(pid) is None
    assert list(tmp_path.iterdir()) == []


def test_what_runs_in_a_scratch_server_finds_no_secret_of_ours_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored index's function is run by the copy's superuser, who reads files and runs programs."""
    monkeypatch.setenv("APPLICATION_PASSWORD", "hunter2-of-the-live-database")
    with scratch_server(tmp_path, 17) as server, connect(server.target) as connection:
        files = (
            "pg_read_binary_file('/proc/self/environ')",
            "pg_read_binary_file('/proc/' || pg_backend_pid() || '/environ')",
        )
        for file in files:
            told = connection.execute(f"select {file}").fetchone()
            assert told is not None and b"hunter2" not in told[0]
        connection.execute("create table seen (line text)")
        connection.execute("copy seen from program 'env'")
        lines = [row[0] for row in connection.execute("select line from seen")]
    assert lines and not [line for line in lines if "hunter2" in line]


def test_what_a_server_says_of_rows_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A refused statement stands in its log, with the row that it was about."""
    with scratch_server(tmp_path, 17) as server, connect(server.target) as connection:
        connection.execute("create table person (mail text primary key)")
        connection.execute("insert into person values ('ann@x.org')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into person values ('ann@x.org')")
        assert "ann@x.org" in server.log.read_text()
        assert stat.S_IMODE(server.log.stat().st_mode) == 0o600


def test_a_scratch_server_is_gone_after_an_error_too(tmp_path: Path) -> None:
    pids: list[int | None] = []
    with pytest.raises(ZeroDivisionError), scratch_server(tmp_path, 17) as server:
        raise_after_noting(server, pids)
    assert pids[0] is not None and processes.birth(pids[0]) is None
    assert list(tmp_path.iterdir()) == []


def raise_after_noting(server: Server, pids: list[int | None]) -> None:
    pids.append(server.pid)
    raise ZeroDivisionError


def test_one_that_is_interrupted_in_the_instant_of_its_start_is_ended_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not written down that it is there: it was waited for, and not told to end."""
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(self: Server, _timeout: float) -> bool:
        assert self._process is not None
        started.append(self._process)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "_wait_ready", interrupted)
    server, begun = Server.create(tmp_path / "server", installation(17)), time.monotonic()
    with pytest.raises(KeyboardInterrupt), server:
        pass
    assert started[0].returncode is not None and time.monotonic() - begun < 8
    assert not (tmp_path / "server").exists()


def test_a_taken_port_is_replaced_by_a_free_one(tmp_path: Path, server: Server) -> None:
    with Server.create(tmp_path / "a", installation(17), port=server.port) as other:
        assert other.port != server.port
        connect(other.target).close()


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseError, match="no_such_setting"),
        Server.create(tmp_path / "a", installation(17), settings={"no_such_setting": "1"}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(DatabaseError, match="not empty"):
        Server.create(tmp_path, installation(17))
    assert (tmp_path / "mine").read_text() == "x"


def test_a_server_is_found_again_by_its_folder(tmp_path: Path) -> None:
    with Server.create(tmp_path / "a", installation(17), purpose="demo", password="p") as server:
        again = Server.open(tmp_path / "a", installation(17), password="p")
        assert again.pid == server.pid
        connect(again.target).close()
        again.stop()
        assert not server.running()


def test_a_killed_maker_takes_its_scratch_server_along_and_sweep_removes_the_rest(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from safepoint.postgres.scratch import scratch_server
        with scratch_server(Path({str(tmp_path)!r}), 17) as server:
            print(server.pid, flush=True)
            time.sleep(600)
    """
    maker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    pid = int(maker.stdout.readline())
    born = processes.birth(pid)
    assert born is not None
    assert sweep(tmp_path) == ()  # its maker lives
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    if sys.platform == "linux":
        deadline = time.monotonic() + 20
        while processes.birth(pid) == born and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes.birth(pid) != born
    assert len(sweep(tmp_path)) == 1
    assert processes.birth(pid) != born
    assert list(tmp_path.iterdir()) == []


def test_sweep_ends_a_scratch_server_that_outlived_its_maker(tmp_path: Path) -> None:
    server = Server.create(tmp_path / "a", installation(17)).start(dies_with_us=False)
    marker = tmp_path / "a" / MARKER
    marker.write_text(marker.read_text().replace(f'"made_by": {os.getpid()}', '"made_by": 4194304'))
    pid = server.pid
    assert pid is not None
    assert sweep(tmp_path) == ("a",)
    assert processes.birth(pid) is None
    assert list(tmp_path.iterdir()) == []


def test_sweep_leaves_servers_that_are_not_scratch(tmp_path: Path) -> None:
    server = Server.create(tmp_path / "a", installation(17), purpose="demo")
    marker = tmp_path / "a" / MARKER
    marker.write_text(marker.read_text().replace(f'"made_by": {os.getpid()}', '"made_by": 4194304'))
    assert sweep(tmp_path) == ()
    server.remove()


def test_where_it_is_known_that_a_server_has_it_a_session_begins_without_a_transaction_timeout(
    servers: Servers, database: Target
) -> None:
    """One of milliseconds would end it before it is told otherwise; older servers refuse whoever names the setting."""
    found = "select source from pg_settings where name = 'transaction_timeout' and setting = '0'"
    connections._WITH_TRANSACTION_TIMEOUT.clear()
    for source in ("session", "client"):
        with connect(database) as connection:
            assert connection.execute(found).fetchone() == (source,)
    if not has_postgres(15):
        pytest.skip("PostgreSQL 15 is not here")
    older = servers(15).target
    connections._WITH_TRANSACTION_TIMEOUT.add((older.host, older.port))
    with connect(older) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert (older.host, older.port) not in connections._WITH_TRANSACTION_TIMEOUT
