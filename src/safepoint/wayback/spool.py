"""The spool: captured transactions on disk, in commit order, durable before the server may forget them.

The file is a magic word, then records: length and CRC-32 (4 bytes each, big-endian), then LSN (8), transaction id
(4) and one pgoutput message. The first record holds a JSON header that ties the spool to its slot. A file beside it
(`.pos`) names the end of the last durable transaction. What lies behind it, whole or torn, is being written, or was
when the writer died: it may not be on the disk, so it counts for nobody. The server still has it, and the next drain
cuts it off and writes it again.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final

from safepoint.errors import CaptureLost, LockNotAvailable, Refused, StorageError
from safepoint.postgres import pgoutput
from safepoint.wayback.changes import Change, Transaction, changes_of

MAGIC: Final = b"SPOOL-1\n"
_FRAME = struct.Struct("!II")
_HEAD = struct.Struct("!QI")
_COMMIT_LSN = struct.Struct("!Q")
_BUFFER = 1 << 20
_PATIENCE: Final = 30.0
SNAPSHOT: Final = "safepoint.snapshot"
"""The prefix of the message by which a drain of a capture by triggers ends."""
_MARK: Final = SNAPSHOT.encode() + b"\0"


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it stands in the spool, and the offset just behind it."""

    lsn: int
    xid: int
    data: bytes
    end: int


@dataclass(frozen=True)
class Position:
    """The end of what is durable: offset in the file, LSN of the last commit, how many transactions lie before.

    `relations` has a digest of each table's last known shape, by oid: a change of it means that DDL ran. `snapshot` is
    that of the last drain of a capture by triggers: what it shows is in the spool. `final`: nothing behind it
    counts. An older version took what it found there for durable, and let the server forget it.
    """

    offset: int
    commit_lsn: int = 0
    transactions: int = 0
    relations: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""
    final: bool = True


class Spool:
    """A spool that is being written. Use as a context manager; `sync` makes what was appended durable.

    There is one writer at a time, also of several processes: whoever comes second waits for the first.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._header = dict(header)
        self.position = Position(0)

    def __enter__(self) -> Spool:
        with _storage(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self.path)
        try:
            with _storage(self.path):
                self._open()
        except BaseException:
            self._lock.close()
            raise
        return self

    def _open(self) -> None:
        if not self.path.exists() or self.path.stat().st_size < len(MAGIC):
            self._start()
        header, first = read_header(self.path)
        if header != self._header:
            raise Refused(
                f"The spool {self.path} belongs to another capture.",
                subject=str(self.path),
                expected=str(self._header),
                found=str(header),
                remedy="Keep that file and give this capture a folder of its own.",
            )
        named, known = _read_position(self.path), durable_position(self.path, first)
        self._file: BinaryIO = self.path.open("r+b", buffering=_BUFFER)
        self._file.truncate(known.offset)
        if named is None or not named.final:  # found by reading, which says nothing of the disk
            os.fsync(self._file.fileno())
            _write_position(self.path, known)
        self.position = known
        self._file.seek(self.position.offset)
        self._offset = self.position.offset

    def __exit__(self, *_error: object) -> None:
        with closing(self._lock), suppress(OSError):
            # What no `sync` has made durable does not count, and a full disk may refuse it now.
            self._file.close()

    def _start(self) -> None:
        partial = self.path.with_name(self.path.name + ".new")
        with partial.open("wb") as file:
            file.write(MAGIC + _framed(0, 0, json.dumps(self._header, sort_keys=True).encode()))
            file.flush()
            os.fsync(file.fileno())
            _write_position(self.path, Position(file.tell()))
        partial.replace(self.path)
        _sync_folder(self.path.parent)

    def append(self, lsn: int, xid: int, data: bytes) -> None:
        """Add a message; it counts only once a `sync` after its transaction's Commit has returned."""
        try:
            self._offset += self._file.write(_framed(lsn, xid, data))
        except OSError as error:
            raise _full(self.path, error) from error

    def sync(self, commit_lsn: int, transactions: int, relations: Mapping[str, str], snapshot: str = "") -> None:
        """Make everything appended so far durable; the last message must be a Commit.

        Raises:
            StorageError: it is not; so the server must keep it.
        """
        total = self.position.transactions + transactions
        position = Position(self._offset, commit_lsn, total, dict(relations), snapshot)
        with _storage(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            _write_position(self.path, position)
        self.position = position


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The spool {path} cannot be written: {error.strerror or error}.",
        subject=str(path),
        remedy="Make room there, then try again. Nothing is lost: the server keeps what is not in the spool yet.",
    )


def _locked(path: Path) -> BinaryIO:
    """The lock of a spool's writer; the kernel lets go of it when the process dies."""
    file = path.with_name(path.name + ".lock").open("ab")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                file.close()
                raise LockNotAvailable(
                    f"The spool {path} is being written by another process.",
                    subject=str(path),
                    remedy="Is a `safepoint follow` at work? Wait for it, or end it, then try again.",
                ) from None
            time.sleep(0.02)
        else:
            return file


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a spool, and the offset behind it.

    Raises:
        CaptureLost: the file is no spool, or its beginning is damaged.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            for record in _records(file, len(MAGIC)):
                return json.loads(record.data), record.end
    raise CaptureLost(
        f"{path} is not a spool, or its beginning is damaged.",
        subject=str(path),
        expected=repr(MAGIC) + " and a whole first record",
        remedy="Look at the disk. What the server still holds can be captured again into a new file.",
    )


def durable_position(path: Path, first: int) -> Position:
    """Where the last durable transaction ends; `first` is where the first one would begin.

    Raises:
        CaptureLost: the file is shorter than what was durable.
    """
    known = _read_position(path)
    if known is None:
        return _whole_position(path, Position(first))
    if not first <= known.offset <= (size := path.stat().st_size):
        raise _damaged(path, size, known.offset)
    return known if known.final else _whole_position(path, known)


def _whole_position(path: Path, known: Position) -> Position:
    """Where the last whole transaction ends: of a spool whose position file is gone, or an older version's, all counts
    that is whole. Of a capture by triggers transactions count only once the drain's snapshot stands behind them.
    """
    counts = read_header(path)[0].get("capture") != "triggers"
    found, lsn, pending, snapshot = replace(known, final=True), known.commit_lsn, 0, known.snapshot
    whole = counts
    with path.open("rb", buffering=_BUFFER) as file:
        for record in _records(file, known.offset):
            kind = record.data[:1]
            if kind == b"M" and not counts and record.data[10:].startswith(_MARK):
                whole, snapshot = True, record.data[10 + len(_MARK) + 4 :].decode()
            elif kind == b"C":
                pending += 1
                (lsn,) = _COMMIT_LSN.unpack_from(record.data, 2)
                if whole:
                    found = Position(record.end, lsn, found.transactions + pending, found.relations, snapshot)
                    pending, whole = 0, counts
    return found


def read_changes(path: Path) -> Iterator[Change]:
    """All changes of all durable transactions, in commit order, one at a time.

    Raises:
        CaptureLost: the file is damaged before its durable end.
    """
    _, first = read_header(path)
    end = durable_position(path, first).offset
    relations: dict[int, pgoutput.Relation] = {}
    transaction = Transaction(0, 0, None)
    with path.open("rb", buffering=_BUFFER) as file:
        at = first
        for record in _records(file, first):
            if record.end > end:
                break
            at = record.end
            message = pgoutput.decode(record.data)
            if isinstance(message, pgoutput.Begin):
                transaction = Transaction(message.xid, message.final_lsn, message.committed_at)
            elif isinstance(message, pgoutput.Relation):
                relations[message.oid] = message
            else:
                yield from changes_of(transaction, message, relations)
    if at != end:
        raise _damaged(path, at, end)


def durable_end(path: Path) -> Position:
    """Behind the last durable transaction."""
    _, first = read_header(path)
    return durable_position(path, first)


def read_messages(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The undecoded messages of all durable transactions, for a reader of many: nothing is made of them here.

    Args:
        start: the offset of an earlier `durable_end`: what lies before it is left out. What was written behind it
            describes each table again, for every drain does. Where no transaction begins there, all is read.
        end: the offset of a later `durable_end`; by default the present one.

    Raises:
        CaptureLost: the file is damaged before its durable end.
    """
    _, first = read_header(path)
    end = durable_position(path, first).offset if end is None else end
    first = start if first <= start <= end and _begins(path, start, end) else first
    at, held, wanted = first, b"", _BUFFER
    frame, crc32, header, least = _FRAME.unpack_from, zlib.crc32, _FRAME.size, _HEAD.size
    with path.open("rb", buffering=0) as file:
        file.seek(first)
        while at < end:
            piece = file.read(min(max(wanted, _BUFFER), end - at - len(held)))
            held, place, wanted = held + piece, 0, 0
            there = len(held)
            while there - place >= header:
                size, checksum = frame(held, place)
                stop = place + header + size
                if stop > there:
                    wanted = stop - there  # a giant value comes in one piece
                    break
                payload = held[place + header : stop]
                if size < least or crc32(payload) != checksum:
                    raise _damaged(path, at + place, end)
                yield payload[least:]
                place = stop
            at, held = at + place, held[place:]
            if not piece and at < end:
                raise _damaged(path, at, end)


def _begins(path: Path, at: int, end: int) -> bool:
    """Whether a transaction begins there, or the spool ends."""
    if at == end:
        return True
    with path.open("rb") as file:
        return next((record.data[:1] == b"B" for record in _records(file, at)), False)


def _damaged(path: Path, at: int, end: int) -> CaptureLost:
    return CaptureLost(
        f"The spool {path} is damaged at byte {at}.",
        subject=str(path),
        expected=f"whole records up to byte {end}",
        remedy="Restore the file from a copy; look at the disk. The migrated database still has these rows.",
    )


def read_transactions(path: Path) -> Iterator[tuple[Transaction, Iterator[Change]]]:
    """The transactions that changed rows, each with its changes; go through them before asking for the next one."""
    return groupby(read_changes(path), key=lambda change: change.transaction)


def _framed(lsn: int, xid: int, data: bytes) -> bytes:
    payload = _HEAD.pack(lsn, xid) + data
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _records(file: BinaryIO, start: int) -> Iterator[Record]:
    """Whole records from an offset on; ends at the first one that is cut short or damaged."""
    file.seek(start)
    at = start
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        size, checksum = _FRAME.unpack(frame)
        if size < _HEAD.size:
            return
        payload = file.read(size)
        if len(payload) < size or zlib.crc32(payload) != checksum:
            return
        at += _FRAME.size + size
        lsn, xid = _HEAD.unpack_from(payload)
        yield Record(lsn, xid, payload[_HEAD.size :], at)


def _position_file(path: Path) -> Path:
    return path.with_name(path.name + ".pos")


def _read_position(path: Path) -> Position | None:
    try:
        data = json.loads(_position_file(path).read_text(encoding="utf-8"))
        return Position(
            data["offset"],
            data["commit_lsn"],
            data["transactions"],
            data["relations"],
            data.get("snapshot", ""),
            data.get("final", False),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write_position(path: Path, position: Position) -> None:
    partial = path.with_name(path.name + ".pos.new")
    text = {
        "offset": position.offset,
        "commit_lsn": position.commit_lsn,
        "transactions": position.transactions,
        "relations": dict(position.relations),
        "snapshot": position.snapshot,
        "final": True,
    }
    with partial.open("w", encoding="utf-8") as file:
        json.dump(text, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(_position_file(path))
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
