"""What listens on this machine alone, for an application on another one: a real sshd's reverse forward."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_server import SSHD, SshServer, ssh_server

from safepoint.config import ComposeHost, HereHost
from safepoint.hosts import Command, open_host
from safepoint.hosts.lending import NotLent, lent

ASK = "import socket, sys; print(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).recv(9).decode())"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("there is no sshd on this machine (Debian: apt-get install openssh-server)")
    with ssh_server(tmp_path) as server:
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    """What listens here greets whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            while True:
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                with one:
                    one.sendall(b"from here")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def gone(port: int) -> bool:
    """Whether nobody listens there any more: its sshd needs a moment to see that the connection has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.05)
    return False


def test_commands_on_another_machine_reach_what_listens_here_as_long_as_they_need_it(
    sshd: SshServer, tmp_path: Path, port: int
) -> None:
    host = open_host("prod", sshd.settings(), tmp_path)
    with lent(host, "127.0.0.1", port) as there, lent(host, "127.0.0.1", port) as another:
        assert len({port, there, another}) == 3
        for one in (there, another):
            assert host.run(Command((sys.executable, "-c", ASK, str(one)))).stdout == "from here\n"
    assert all(gone(one) for one in (there, another))
    with lent(host, "db.internal", 5432) as same:
        assert same == 5432  # whatever reaches it from here has to reach it from there


def test_a_server_that_forwards_nothing_is_told(sshd: SshServer, tmp_path: Path, port: int) -> None:
    keys = sshd.folder / "authorized_keys"
    keys.write_text("".join(f"restrict {line}\n" for line in keys.read_text().splitlines()))
    host = open_host("prod", sshd.settings(), tmp_path)
    with pytest.raises(NotLent, match="forwarding failed") as told, lent(host, "127.0.0.1", port):
        pass
    assert "AllowTcpForwarding" in str(told.value.remedy)


def test_this_machine_needs_no_way_and_a_container_has_none(tmp_path: Path, port: int) -> None:
    with lent(open_host("here", HereHost(), tmp_path), "127.0.0.1", port) as there:
        assert there == port
    compose = open_host("web", ComposeHost(kind="compose", service="web", project=tmp_path), tmp_path)
    with pytest.raises(NotLent, match="web does not reach"), lent(compose, "127.0.0.1", port):
        pass
