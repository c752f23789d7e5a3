"""The spool: captured transactions on disk, in commit order, durable before the server may forget them.

The file is a magic word, then blocks: length and CRC-32 of what follows (4 bytes each, big-endian), the number of
pgoutput messages (4), the length of each (4), and the messages. The first block holds one: a JSON header that ties the
spool to its slot. A file beside it (`.pos`) names the end of the last durable transaction, which is the end of a block.
What lies behind it, whole or torn, is being written, or was when the writer died: it may not be on the disk, so it
counts for nobody. The server still has it, and the next drain cuts it off and writes it again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

from safepoint.errors import CaptureLost, LockNotAvailable, Refused, StorageError
from safepoint.postgres import pgoutput
from safepoint.postgres.pgoutput import parse_lsn
from safepoint.wayback.capture.changes import Change, Transaction, changes_of
from safepoint.wayback.capture.spool_position import Position, read_position, sync_folder, write_position

MAGIC: Final = b"SPOOL-2\n"
_WORD: Final = b"SPOOL-"
_FRAME = struct.Struct("!II")
_COUNT = struct.Struct("!I")
_COMMIT_LSN = struct.Struct("!Q")
# A block is closed behind this many bytes or messages: what a transaction of any size takes of memory.
_BLOCK: Final = 1 << 20
_MANY: Final = 20_000
_PATIENCE: Final = 30.0
SNAPSHOT: Final = "safepoint.snapshot"
"""The prefix of the message by which a drain of a capture by triggers ends."""
_MARK: Final = SNAPSHOT.encode() + b"\0"


class Spool:
    """A spool that is being written. Use as a context manager; `sync` makes what was appended durable.

    There is one writer at a time, also of several processes: whoever comes second waits for the first.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._header = dict(header)
        self.position = Position(0)
        self._held: list[bytes] = []
        self._size = 0

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
        named, known = read_position(self.path), durable_position(self.path, first)
        self._file: BinaryIO = self.path.open("r+b")
        self._file.truncate(known.offset)
        if named is None:  # found by reading, which says nothing of the disk
            os.fsync(self._file.fileno())
            write_position(self.path, known)
        self.position = known
        self._file.seek(self.position.offset)
        self._offset = self.position.offset

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        with closing(self._lock):
            with suppress(OSError):
                # What no `sync` has made durable does not count, and a full disk may refuse it now.
                self._file.close()
            if kind is not None and issubclass(kind, Exception):
                with suppress(OSError):
                    self._give_back()

    def _give_back(self) -> None:
        """Cut off what does not count: on a full disk the ledger needs its room."""
        named = read_position(self.path)
        if named is not None:
            os.truncate(self.path, max(self.position.offset, named.offset))

    def _start(self) -> None:
        partial = self.path.with_name(self.path.name + ".new")
        with partial.open("wb") as file:
            file.write(MAGIC + _block([json.dumps(self._header, sort_keys=True).encode()]))
            file.flush()
            os.fsync(file.fileno())
            begins = parse_lsn(str(self._header.get("start_lsn", "0/0")))
            write_position(self.path, Position(file.tell(), let_go=begins))
        partial.replace(self.path)
        sync_folder(self.path.parent)

    def extend(self, messages: Sequence[bytes]) -> int:
        """Add messages; they count only once a `sync` after their transaction's Commit has returned. Gives their bytes.

        Raises:
            StorageError: the disk is full, or refuses to be written.
        """
        self._held += messages
        size = sum(map(len, messages))
        self._size += size
        if self._size >= _BLOCK or len(self._held) >= _MANY:
            with _storage(self.path):
                self._write()
        return size

    def _write(self) -> None:
        if self._held:
            self._offset += self._file.write(_block(self._held))
            self._held, self._size = [], 0

    def sync(
        self,
        commit_lsn: int,
        transactions: int,
        relations: Mapping[str, str],
        snapshot: str = "",
        let_go: int | None = None,
        timeline: str = "",
    ) -> None:
        """Make everything added so far durable; the last message must be a Commit.

        Args:
            let_go: see `will_let_go`; said here it costs nothing.
            timeline: the one that it was committed on.

        Raises:
            StorageError: it is not; so the server must keep it.
        """
        total = self.position.transactions + transactions
        with _storage(self.path):
            self._write()
            told = max(self.position.let_go or 0, let_go or 0) or None
            position = Position(self._offset, commit_lsn, total, dict(relations), snapshot, told, timeline)
            self._file.flush()
            os.fsync(self._file.fileno())
            write_position(self.path, position)
        self.position = position

    def will_let_go(self, lsn: int) -> None:
        """Write down that the server is about to be told to forget what comes before an LSN.

        By that an older copy of this spool is known: of it the server has let go of more than it knows.

        Raises:
            StorageError: it could not be written down; so the server must keep it.
        """
        if lsn > (self.position.let_go or 0):
            position = replace(self.position, let_go=lsn)
            with _storage(self.path):
                write_position(self.path, position)
            self.position = position


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> StorageError:
    mended = "Make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "See what is wrong there"
    return StorageError(
        f"The spool {path} cannot be written: {error.strerror or error}.",
        subject=str(path),
        remedy=f"{mended}, then try again. Nothing is lost: the server keeps what is not in the spool yet.",
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


def of_another_version(path: Path) -> tuple[str, str] | None:
    """The format of a spool that this version cannot read, and its own; None where it can, or where there is none."""
    try:
        with path.open("rb") as file:
            word = file.read(len(MAGIC))
    except OSError:
        return None  # whoever reads it will say so
    if word == MAGIC or len(word) != len(MAGIC) or not word.startswith(_WORD):
        return None
    return word.decode("ascii", "replace").strip(), MAGIC.decode().strip()


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a spool, and the offset behind it.

    Raises:
        CaptureLost: the file is no spool, or its beginning is damaged.
    """
    with path.open("rb") as file:
        word = file.read(len(MAGIC))
        if word == MAGIC:
            for block, end in _blocks(file, len(MAGIC)):
                return json.loads(block[0]), end
    if of_another_version(path) is not None:
        raise CaptureLost(
            f"{path} was written by another version of Safepoint.",
            subject=str(path),
            expected=repr(MAGIC),
            found=repr(word),
            remedy="A launch ends with the version that it began with: install that one, then give the order again.",
        )
    raise CaptureLost(
        f"{path} is not a spool, or its beginning is damaged.",
        subject=str(path),
        expected=repr(MAGIC) + " and a whole first block",
        remedy="Look at the disk. What the server still holds can be captured again into a new file.",
    )


def durable_position(path: Path, first: int) -> Position:
    """Where the last durable transaction ends; `first` is where the first one would begin.

    Raises:
        CaptureLost: the file is shorter than what was durable.
    """
    known = read_position(path)
    if known is None:
        return _whole_position(path, first)
    if not first <= known.offset <= (size := path.stat().st_size):
        raise _damaged(path, size, known.offset)
    return known


def _whole_position(path: Path, first: int) -> Position:
    """Where the last whole transaction ends: of a spool whose position file is gone all counts that is whole.

    What was made durable always ended with a block. Of a capture by triggers transactions count only once the drain's
    snapshot stands behind them.
    """
    by_triggers = read_header(path)[0].get("capture") == "triggers"
    found, transactions, snapshot = Position(first), 0, ""
    with path.open("rb") as file:
        for block, end in _blocks(file, first):
            transactions += sum(message[:1] == b"C" for message in block)
            marked = len(block) > 1 and block[-2][:1] == b"M" and block[-2][10:].startswith(_MARK)
            if marked:
                snapshot = block[-2][10 + len(_MARK) + 4 :].decode()
            if block[-1][:1] == b"C" and (marked or not by_triggers):
                (lsn,) = _COMMIT_LSN.unpack_from(block[-1], 2)
                found = Position(end, lsn, transactions, {}, snapshot)
    return found


def read_changes(
    path: Path, now: Callable[[pgoutput.Relation], pgoutput.Relation] = lambda relation: relation
) -> Iterator[Change]:
    """All changes of all durable transactions, in commit order, one at a time.

    Args:
        now: gives a relation the names that it has now (`renamed`).

    Raises:
        CaptureLost: the file is damaged before its durable end.
    """
    relations: dict[int, pgoutput.Relation] = {}
    transaction = Transaction(0, 0, None)
    for data in read_messages(path):
        message = pgoutput.decode(data)
        if isinstance(message, pgoutput.Begin):
            transaction = Transaction(message.xid, message.final_lsn, message.committed_at)
        elif isinstance(message, pgoutput.Relation):
            relations[message.oid] = now(message)
        else:
            yield from changes_of(transaction, message, relations)


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
    at = start if first <= start <= end and _begins(path, start, end) else first
    with path.open("rb") as file:
        for block, behind in _blocks(file, at):
            if at >= end:
                return
            yield from block
            at = behind
    if at != end:
        raise _damaged(path, at, end)


def _begins(path: Path, at: int, end: int) -> bool:
    """Whether a transaction begins there, or the spool ends."""
    if at == end:
        return True
    with path.open("rb") as file:
        return next((block[0][:1] == b"B" for block, _ in _blocks(file, at)), False)


def _damaged(path: Path, at: int, end: int) -> CaptureLost:
    return CaptureLost(
        f"The spool {path} is damaged at byte {at}.",
        subject=str(path),
        expected=f"whole blocks up to byte {end}",
        remedy="Restore the file from a copy; look at the disk. The migrated database still has these rows.",
    )


def _block(messages: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"!I{len(messages)}I", len(messages), *map(len, messages))
    payload = b"".join((lengths, *messages))
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _blocks(file: BinaryIO, at: int) -> Iterator[tuple[list[bytes], int]]:
    """The messages of each whole block from an offset on, and the offset behind it; ends at the first damaged one."""
    file.seek(at)
    whole = os.fstat(file.fileno()).st_size
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        size, checksum = _FRAME.unpack(frame)
        if not _COUNT.size <= size <= whole - at - _FRAME.size or zlib.crc32(payload := file.read(size)) != checksum:
            return
        (count,) = _COUNT.unpack_from(payload)
        lengths = struct.unpack_from(f"!{count}I", payload, _COUNT.size)
        at += _FRAME.size + size
        yield [payload[a:b] for a, b in pairwise(accumulate(lengths, initial=_COUNT.size * (1 + count)))], at
