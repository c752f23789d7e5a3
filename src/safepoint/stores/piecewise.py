"""Big files that come out of a stream (they are encrypted on the way) and cannot be read again: sent piece by piece.

A piece is held until the store has it, so that a broken link costs one piece and not the file: encrypted again it would
come out different. What a killed process began is begun anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol, TypeAlias

from safepoint.stores import folders, going_on

At: TypeAlias = Callable[[], AbstractContextManager[tuple[Any, str]]]
"""Gives the file system, connected anew after a failure, and the file's path in it; explains what goes wrong there."""


class Writing(Protocol):
    """A file on its way. Each call may be repeated after any failure; what goes wrong is as in `Files`."""

    piece: int
    """The size of each piece but the last, in bytes."""

    def send(self, number: int, data: bytes) -> None:
        """Write the piece of that number, from 1."""
        ...

    def finish(self, size: int) -> None:
        """Let the file be seen under its name; `size` is that of all pieces."""
        ...

    def give_up(self) -> None:
        """Remove what was sent."""
        ...


class Pieces:
    """A sink that hands on pieces of the right size, and knows what was written."""

    def __init__(self, size: int, send: Callable[[int, bytes], None]) -> None:
        self._size, self._send = size, send
        self._buffer, self._number = bytearray(), 0
        self._digest, self.bytes = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Take any number of bytes, and hand on each piece that is whole."""
        self._digest.update(data)
        self.bytes += len(data)
        self._buffer += data
        while len(self._buffer) >= self._size:
            self._hand_on(self._size)
        return len(data)

    def end(self) -> None:
        """Hand on what is left."""
        if self._buffer or not self._number:
            self._hand_on(len(self._buffer))

    @property
    def sha256(self) -> str:
        """Of all that was written, in hex."""
        return self._digest.hexdigest()

    def _hand_on(self, size: int) -> None:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._number += 1
        self._send(self._number, piece)


class S3Parts:
    """The parts of one upload to S3; nothing is seen of it before they are put together.

    Args:
        words: what is said of the object when it is begun, from the file system and the path.
    """

    def __init__(self, at: At, size: int, words: Callable[[Any, str], dict[str, Any]]) -> None:
        self.piece = going_on.size_of_parts(size)
        self._at, self._words = at, words
        self._upload: dict[str, Any] = {}
        self._marks: dict[int, str] = {}
        self._tried = 0

    def send(self, number: int, data: bytes) -> None:
        """See `Writing.send`."""
        mark = hashlib.md5(data, usedforsecurity=False).hexdigest()
        with self._at() as (fs, path):
            if not self._upload:
                self._upload = going_on.begin(fs, path, self._words(fs, path))
            again, self._tried = self._tried >= number, number
            # Its answer alone may have been lost, and not every store lets a part be replaced.
            if again and going_on.parts_of(fs, self._upload).get(number) == (mark, len(data)):
                self._marks[number] = mark
                return
            self._marks[number] = fs.call_s3("upload_part", **self._upload, PartNumber=number, Body=data)["ETag"]

    def finish(self, size: int) -> None:
        """See `Writing.finish`."""
        with self._at() as (fs, path):
            try:
                going_on.put_together(fs, self._upload, self._marks)
            except FileNotFoundError:
                if fs.info(path)["size"] != size:  # it was put together, and only the answer was lost
                    raise

    def give_up(self) -> None:
        """See `Writing.give_up`."""
        with suppress(Exception), self._at() as (fs, _path):
            fs.call_s3("abort_multipart_upload", **self._upload)


class InPlace:
    """Pieces written where they belong, in a file of another name that is renamed at the end."""

    def __init__(self, at: At, writing: Callable[[Any], Any]) -> None:
        self.piece = going_on.BIG
        self._at, self._writing = at, writing

    def send(self, number: int, data: bytes) -> None:
        """See `Writing.send`."""
        with self._at() as (fs, path):
            if number == 1:
                folders.make_above(fs, path)
                folders.make_private(fs, f"{path}{folders.UNFINISHED}")
            file = self._writing(fs.open(f"{path}{folders.UNFINISHED}", "wb" if number == 1 else "r+b"))
            try:
                file.seek((number - 1) * self.piece)
                file.write(data)
                file.close()
            except BaseException:
                going_on.end(fs, file, None)
                raise

    def finish(self, size: int) -> None:
        """See `Writing.finish`."""
        with self._at() as (fs, path):
            part = f"{path}{folders.UNFINISHED}"
            try:
                there = fs.info(part)["size"]
            except FileNotFoundError:
                if fs.info(path)["size"] == size:  # it was renamed, and only the answer was lost
                    return
                raise
            if there != size:
                raise ConnectionError(f"of {size} bytes that were sent {there} are there")
            folders.settle(fs, path)

    def give_up(self) -> None:
        """See `Writing.give_up`."""
        with suppress(Exception), self._at() as (fs, path):
            fs.rm(f"{path}{folders.UNFINISHED}")
