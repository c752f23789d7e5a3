"""What a terminal does to a conductor: Ctrl-Z, a link that broke, and then an order to end."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from least_plan import SOMEDAY

from safepoint.errors import ExitCode
from safepoint.launch.lock import held
from safepoint.postgres.servers import free_port

LEDGER = ".safepoint/launches/shop-2.0-20310301/ledger.jsonl"
LOCK = ".safepoint/conductor-shop.lock"


@contextmanager
def waiting(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A conductor that waits for its first moment, in years, and the other end of its terminal."""
    (folder / "launch.toml").write_text(SOMEDAY.format(port=free_port()))
    ours, its = pty.openpty()
    env = {**os.environ, "SHOP_PASSWORD": "only-for-tests"}
    program = str(Path(sys.executable).parent / "safepoint")
    conductor = subprocess.Popen(
        [program, "launch"], cwd=folder, stdin=its, stdout=its, stderr=its, env=env, process_group=0
    )
    os.close(its)
    try:
        deadline, ledger = time.monotonic() + 60, folder / LEDGER
        while not ledger.exists() or b'"kind":"run"' not in ledger.read_bytes():
            assert time.monotonic() < deadline and conductor.poll() is None
            time.sleep(0.05)
        yield conductor, ours
    finally:
        conductor.kill()
        conductor.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_conductor_whose_terminal_is_gone_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with waiting(tmp_path) as (conductor, terminal):
        os.close(terminal)
        time.sleep(0.5)
        assert conductor.poll() is None and held(tmp_path / LOCK)
        conductor.send_signal(number)
        assert conductor.wait(20) == ExitCode.INTERRUPTED
        assert not held(tmp_path / LOCK)


def test_a_conductor_is_not_stopped_by_a_wrong_key(tmp_path: Path) -> None:
    with waiting(tmp_path) as (conductor, terminal):
        conductor.send_signal(signal.SIGTSTP)
        time.sleep(0.5)
        state = Path(f"/proc/{conductor.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state != "T"
        os.close(terminal)


def test_of_a_conductor_that_stands_still_it_is_said_that_it_takes_no_order(tmp_path: Path) -> None:
    """Somebody stopped its process: `abort` was "given to the conductor", and nothing happened."""
    program = str(Path(sys.executable).parent / "safepoint")

    def said(*words: str) -> str:
        env = {**os.environ, "SHOP_PASSWORD": "only-for-tests"}
        done = subprocess.run([program, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return " ".join(f"{done.stdout}{done.stderr}".split())

    with waiting(tmp_path) as (conductor, terminal):
        assert "STOPPED" not in said("status")
        conductor.send_signal(signal.SIGSTOP)
        stopped = f"its process is STOPPED and takes no order: `kill -CONT {conductor.pid}` lets it go on"
        assert stopped in said("status") and stopped in said("hold") and stopped in said("launch", "--plain")
        told = said("abort")
        assert stopped in told and "It has not taken it up within 5 s" in told
        assert (
            f"`kill -9 {conductor.pid}` on {socket.gethostname()}, which loses nothing; then `safepoint abort`" in told
        )
        assert json.loads(said("abort", "--json"))["waits"] is True
        threading.Thread(target=read_on, args=(terminal,), daemon=True).start()  # it ends once all of it was shown
        conductor.send_signal(signal.SIGCONT)
        assert conductor.wait(30) == ExitCode.ROLLED_BACK


def read_on(terminal: int) -> None:
    """As somebody who looks at it, until its other end is closed."""
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass
