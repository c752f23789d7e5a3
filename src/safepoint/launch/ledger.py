"""The ledger: the append-only, hash-chained record of a launch, and the truth for status and report.

One JSON object a line. Each entry's hash covers the entry and the hash before it (SHA-256), so that a changed,
removed or reordered line shows. Only the conductor writes; anyone may read while it does. An entry has a `key`,
and appending the same key again answers the entry that is there: a step that is run again after a crash records
nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from safepoint.errors import SafepointError

GENESIS = "0" * 64


class LedgerBroken(SafepointError):
    """A line of the ledger is not what was written: it was changed, removed, or damaged on disk."""


@dataclass(frozen=True)
class Entry:
    """One line: `kind` says what happened (`step`, `gate`, `order`, `fact`, ...), `data` the rest, JSON-safe."""

    seq: int
    at: str
    kind: str
    key: str
    step: str | None
    data: Mapping[str, Any]
    prev: str
    hash: str

    def as_json(self) -> dict[str, Any]:
        """The entry as it stands in its line."""
        return {
            "seq": self.seq,
            "at": self.at,
            "kind": self.kind,
            "key": self.key,
            "step": self.step,
            "data": dict(self.data),
            "prev": self.prev,
            "hash": self.hash,
        }

    @property
    def when(self) -> datetime:
        """When the entry was written, in UTC."""
        return datetime.fromisoformat(self.at)


def digest(content: Mapping[str, Any]) -> str:
    """The hash of an entry's content (all fields but `hash`), over its canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read(path: Path) -> Iterator[Entry]:
    """Read and check a ledger from its beginning. A last line without its line feed is still being written.

    Raises:
        LedgerBroken: at the first line that does not fit the chain, with its number.
    """
    previous = GENESIS
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            entry = _parse(path, number, line)
            if entry.prev != previous or entry.seq != number:
                raise _broken(path, number, "it does not continue the line before it")
            previous = entry.hash
            yield entry


def _parse(path: Path, number: int, line: bytes) -> Entry:
    try:
        content = json.loads(line)
        stated = content.pop("hash")
        entry = Entry(**content, hash=stated)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _broken(path, number, "it is not a ledger entry") from None
    if digest(content) != stated:
        raise _broken(path, number, "its content does not match its hash")
    return entry


def _broken(path: Path, number: int, why: str) -> LedgerBroken:
    return LedgerBroken(
        f"The ledger {path} is broken at line {number}: {why}.",
        subject=f"{path}:{number}",
        remedy="Keep the file as evidence; restore it from your own backup of the state folder.",
    )


class Ledger:
    """A ledger open for writing. Hold the conductor's lock while one is open."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.listeners: list[Callable[[Entry], None]] = []
        self._clock = clock
        self.entries: list[Entry] = list(read(path))
        self._by_key = {entry.key: entry for entry in self.entries}
        self._file = path.open("ab", buffering=0)  # a buffer would keep what was refused, and write it later
        try:
            self._settle_end()
        except OSError as error:
            self._file.close()
            raise OSError(error.errno, error.strerror, str(path)) from error

    def _settle_end(self) -> None:
        """Remove a last line that a crash left without its end: it was never acknowledged to anyone. Write the last
        whole one again: its `fsync` may never have come, or failed, and what failed once is not tried again by another.
        """
        data = self.path.read_bytes()
        self._size = data.rfind(b"\n") + 1
        self._in_doubt = bool(data)
        if self._size:
            last = data.rfind(b"\n", 0, self._size - 1) + 1
            with self.path.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), data[last : self._size], last)
        self._take_back()

    def _take_back(self) -> None:
        """Cut off what may stand, whole or in part, behind the last entry: the next one continues from there."""
        if self._in_doubt:
            os.ftruncate(self._file.fileno(), self._size)
            os.fsync(self._file.fileno())
            self._in_doubt = False

    def append(self, kind: str, key: str, data: Mapping[str, Any], *, step: str | None = None) -> Entry:
        """Write an entry durably, or answer the one that has this key already.

        Raises:
            OSError: it could not be written, or not be made durable; nothing of it stands there then.
        """
        if (known := self._by_key.get(key)) is not None:
            return known
        content: dict[str, Any] = {
            "seq": len(self.entries) + 1,
            "at": self._clock().isoformat(),
            "kind": kind,
            "key": key,
            "step": step,
            "data": json.loads(json.dumps(data)),
            "prev": self.entries[-1].hash if self.entries else GENESIS,
        }
        entry = Entry(**content, hash=digest(content))
        line = json.dumps(entry.as_json(), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        try:
            self._take_back()
            self._write(line)
        except OSError as error:  # a full disk: the system does not say of which file
            with suppress(OSError):
                self._take_back()
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.entries.append(entry)
        self._by_key[key] = entry
        for listener in self.listeners:
            listener(entry)
        return entry

    def _write(self, line: bytes) -> None:
        self._in_doubt = True
        left = memoryview(line)
        while left:
            left = left[self._file.write(left) :]
        os.fsync(self._file.fileno())
        self._size += len(line)
        self._in_doubt = False

    def find(self, key: str) -> Entry | None:
        """The entry with this key, if there is one."""
        return self._by_key.get(key)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
