"""An entry that could not be written, or made durable: what follows continues the chain all the same."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from safepoint.launch.ledger import Ledger, read


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """A disk on which a file grows so far and no further: what is written is cut there, and then refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Disk:
    """What of a file would be there after the power failed. An `fsync` that fails is told of once: what was written
    before counts as clean from then on, and is on the disk only where it is written again.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self.held = b""
        self._path, self._fsync = path, os.fsync
        monkeypatch.setattr("os.fsync", self._synced)

    def _synced(self, handle: int) -> None:
        self._fsync(handle)
        if self.fails:
            os.utime(self._path, ns=(0, 0))  # whoever writes there sets it
            raise OSError(errno.EIO, "Input/output error")
        if self._path.stat().st_mtime_ns:
            self.held = self._path.read_bytes()


def refused(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def keys(path: Path) -> list[str]:
    return [entry.key for entry in read(path)]


def test_what_a_full_disk_cut_short_does_not_break_the_chain_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("step.begun", "one", {})
        with no_larger_than(path.stat().st_size + 20), pytest.raises(OSError, match=r"File too large.*ledger\.jsonl"):
            ledger.append("fact", "two", {"lsn": "0/1"})
        assert ledger.find("two") is None and keys(path) == ["one"]
        ledger.append("step.failed", "three", {})  # as a step does whose fact could not be written
        assert keys(path) == ["one", "three"]
    assert [entry.key for entry in Ledger(path).entries] == ["one", "three"]


def test_an_entry_whose_sync_failed_does_not_stand_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    disk = Disk(path, monkeypatch)
    with Ledger(path) as ledger:
        ledger.append("step.begun", "one", {})
        disk.fails = True
        with pytest.raises(OSError, match=r"Input/output error.*ledger\.jsonl"):
            ledger.append("fact", "two", {"lsn": "0/1"})
        disk.fails = False
        ledger.append("step.failed", "three", {})
    assert keys(path) == ["one", "three"]
    path.write_bytes(disk.held)
    assert keys(path) == ["one", "three"]


def test_whoever_opens_it_next_does_not_rely_on_an_entry_whose_sync_never_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    disk = Disk(path, monkeypatch)
    with Ledger(path) as ledger:
        ledger.append("step.begun", "one", {})
        disk.fails = True
        monkeypatch.setattr("os.ftruncate", refused)  # nor can it be taken back
        with pytest.raises(OSError, match="Input/output error"):
            ledger.append("step.begun", "two", {})
    monkeypatch.undo()
    lost, disk = disk.held, Disk(path, monkeypatch)
    assert len(lost.splitlines()) == 1 and keys(path) == ["one", "two"]
    with Ledger(path) as ledger:
        assert ledger.find("two") is not None
        path.write_bytes(disk.held)  # the power failed while this one's next step was at work
    assert keys(path) == ["one", "two"]
