"""Trying again, as a wrapper around `Files`: a broken link costs the file that it hit, not the snapshot."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from safepoint.stores.faults import Unreachable, explained
from safepoint.stores.files import CHUNK, Files, Reading, Sent, Step, Through, copied
from safepoint.stores.piecewise import Pieces, Writing

T = TypeVar("T")

ATTEMPTS = 5
FIRST_WAIT = 0.5
LONGEST_WAIT = 15.0


class Retrying:
    """Repeats a call that ended with `Unreachable`, after a growing, jittered wait; big files go on where they were.

    Args:
        pause: sleeps for so many seconds; may raise, where an order to stop came.
    """

    def __init__(self, files: Files, pause: Callable[[float], None] = time.sleep, *, attempts: int = ATTEMPTS) -> None:
        self.where = files.where
        self._files = files
        self._pause = pause
        self._attempts = attempts

    def put(self, local: Path, name: str, step: Step, through: Through = copied) -> Sent:
        """See `Files.put`. What goes through something else is sent piece by piece: so is only a piece sent again."""
        if through is not copied:
            writing = self._insist(lambda: self._files.begin(name, local.stat().st_size))
            if writing is not None:
                return self._piece_by_piece(writing, local, step, through)
        return self._insist(lambda: self._files.put(local, name, step, through))

    def begin(self, name: str, size: int) -> Writing | None:
        """See `Files.begin`."""
        return self._insist(lambda: self._files.begin(name, size))

    def _piece_by_piece(self, writing: Writing, local: Path, step: Step, through: Through) -> Sent:
        pieces = Pieces(writing.piece, lambda number, data: self._insist(lambda: writing.send(number, data)))
        try:
            with local.open("rb") as source:
                through(source, cast(BinaryIO, pieces), step)
            pieces.end()
            self._insist(lambda: writing.finish(pieces.bytes))
        except BaseException:
            writing.give_up()
            raise
        return Sent(pieces.bytes, pieces.sha256)

    def get(self, name: str, local: Path, step: Step, through: Through = copied) -> None:
        """See `Files.get`. A broken link costs the piece that it hit."""
        try:
            with closing(self.reading(name)) as source, local.open("wb") as sink:
                through(cast(BinaryIO, source), sink, step)
        except OSError as error:
            raise explained(error, "read", name, self.where) from error

    def locked_until(self, name: str) -> datetime | None:
        """See `Files.locked_until`."""
        return self._insist(lambda: self._files.locked_until(name))

    def keeps_versions(self) -> bool:
        """See `Files.keeps_versions`."""
        return self._insist(self._files.keeps_versions)

    def digest(self, name: str, step: Step) -> str:
        """See `Files.digest`. A broken link costs the piece that it hit."""
        digest, done = hashlib.sha256(), 0
        with closing(self.reading(name)) as source:
            while piece := source.read(CHUNK):
                digest.update(piece)
                done += len(piece)
                step(done)
        return digest.hexdigest()

    def reading(self, name: str) -> Reading:
        """See `Files.reading`."""
        return _Insisting(self._files.reading(name), self._insist)

    def write(self, name: str, data: bytes) -> None:
        """See `Files.write`."""
        self._insist(lambda: self._files.write(name, data))

    def read(self, name: str) -> bytes:
        """See `Files.read`."""
        return self._insist(lambda: self._files.read(name))

    def exists(self, name: str) -> bool:
        """See `Files.exists`."""
        return self._insist(lambda: self._files.exists(name))

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        return self._insist(lambda: self._files.names(folder))

    def sizes(self, folder: str) -> dict[str, int | None]:
        """See `Files.sizes`."""
        return self._insist(lambda: self._files.sizes(folder))

    def folders(self) -> list[str]:
        """See `Files.folders`."""
        return self._insist(self._files.folders)

    def touched(self, folder: str) -> datetime | None:
        """See `Files.touched`."""
        return self._insist(lambda: self._files.touched(folder))

    def remove(self, name: str) -> None:
        """See `Files.remove`."""
        self._insist(lambda: self._files.remove(name))

    def tidy(self, before: datetime) -> None:
        """See `Files.tidy`."""
        self._insist(lambda: self._files.tidy(before))

    def _insist(self, call: Callable[[], T]) -> T:
        for attempt in range(1, self._attempts):
            try:
                return call()
            except Unreachable:
                self._pause(wait(attempt))
        return call()


class _Insisting:
    """A file of a store, each piece of which is asked for again."""

    def __init__(self, reading: Reading, insist: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._reading, self._insist = reading, insist
        self.close = reading.close

    def read(self, size: int) -> bytes:
        return self._insist(lambda: self._reading.read(size))


def wait(attempt: int) -> float:
    """Seconds to wait after the attempt of that number (from 1): doubling, bounded, with up to a quarter of jitter."""
    jitter = random.uniform(0.75, 1.0)  # noqa: S311  # no secret
    return min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT) * jitter
