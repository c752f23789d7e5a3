"""The conductor's lock: never two at once, and a dead one's is taken over."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safepoint.errors import Refused
from safepoint.launch.lock import ConductorLock, held, holder

LOCK = "conductor-accounting.lock"
HOLD = """
import sys, time
from pathlib import Path
from safepoint.launch.lock import ConductorLock
with ConductorLock(Path(sys.argv[1]), "accounting-2.0", "safepoint launch"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / LOCK)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_conductor_is_refused_and_told_who_the_first_is(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(Refused) as raised, ConductorLock(tmp_path / LOCK, "accounting-2.0", "safepoint launch"):
        pass
    assert f"(process {other.pid})" in raised.value.message
    assert "safepoint launch" in raised.value.message
    assert raised.value.remedy is not None and "safepoint status" in raised.value.remedy


def test_others_see_who_holds_it_and_since_when(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    who = holder(tmp_path / LOCK)
    assert who is not None
    assert (who.pid, who.launch, who.command) == (other.pid, "accounting-2.0", "safepoint launch")
    assert str(who).startswith(f"{who.user} on {who.machine} (process {other.pid}), since 20")
    assert held(tmp_path / LOCK)


def test_a_killed_conductors_lock_is_taken_over_at_once_and_says_from_whom(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert holder(tmp_path / LOCK) is None
    assert not held(tmp_path / LOCK)
    with ConductorLock(tmp_path / LOCK, "accounting-2.0", "safepoint launch") as lock:
        assert lock.taken_over is not None and lock.taken_over.pid == other.pid
        mine = json.loads(lock.path.read_text())
        assert mine["pid"] == os.getpid()


def test_a_lock_that_was_given_back_is_taken_over_from_nobody(tmp_path: Path) -> None:
    with ConductorLock(tmp_path / LOCK, "a", "safepoint launch"):
        assert held(tmp_path / LOCK)
    assert not held(tmp_path / LOCK)
    with ConductorLock(tmp_path / LOCK, "a", "safepoint launch") as lock:
        assert lock.taken_over is None


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ConductorLock(tmp_path / LOCK, "a", "safepoint launch"):
        raise ZeroDivisionError
    assert not held(tmp_path / LOCK)


def test_before_any_conductor_nobody_holds_it(tmp_path: Path) -> None:
    assert holder(tmp_path / LOCK) is None
    assert not held(tmp_path / LOCK)


@pytest.mark.parametrize("content", [b"", b"{", b'{"user": "ada"}', b"\xff\xfe", b"[]"])
def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with ConductorLock(tmp_path / LOCK, "a", "safepoint launch") as lock:
        assert lock.taken_over is None


def test_a_reader_that_looks_at_the_same_instant_does_not_refuse_a_conductor(tmp_path: Path) -> None:
    """`safepoint status` holds a shared lock for an instant; without patience the conductor would be refused."""
    look = (
        "import fcntl, os, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_SH)\nprint('looking', flush=True)\ntime.sleep(0.15)\n"
    )
    path = str(tmp_path / LOCK)
    with subprocess.Popen([sys.executable, "-c", look, path], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "looking\n"
        with ConductorLock(tmp_path / LOCK, "a", "safepoint launch"):
            assert held(tmp_path / LOCK)


def test_only_the_user_can_read_the_lock_file(tmp_path: Path) -> None:
    with ConductorLock(tmp_path / LOCK, "a", "safepoint launch") as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o600


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A dump that outlives its killed conductor must not keep the next conductor out."""
    with ConductorLock(tmp_path / LOCK, "a", "safepoint launch"):
        child = subprocess.Popen(["sleep", "30"])
    try:
        assert not held(tmp_path / LOCK)
    finally:
        child.kill()
        child.wait()


def test_a_disk_that_is_read_only_at_the_end_makes_no_failure_of_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conductor.lock"

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with ConductorLock(path, "shop-2.0", "safepoint launch"):
        monkeypatch.setattr("os.ftruncate", read_only)
    monkeypatch.undo()
    assert not held(path)
    with ConductorLock(path, "shop-2.0", "safepoint launch") as lock:
        assert lock.taken_over is not None  # its name stands there, as a dead one's
