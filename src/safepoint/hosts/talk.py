"""What a process is told later, and what it is heard to say: the input and output of one that lives on meanwhile."""

from __future__ import annotations

import threading


class Later:
    """A standard input whose bytes are given later; until then `read` waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._data = b""
        self.ended = False

    def give(self, data: bytes) -> None:
        """More of it; nothing counts after its end."""
        with self._changed:
            if not self.ended:
                self._data += data
                self._changed.notify()

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self.ended = True
            self._changed.notify()

    def read(self, size: int, /) -> bytes:
        """Waits for the bytes, or for the end."""
        with self._changed:
            while not self._data and not self.ended:
                self._changed.wait()
            chunk, self._data = self._data[:size], self._data[size:]
            return chunk


class Heard:
    """What the process printed, and whether a word is among it that is waited for."""

    def __init__(self, word: str) -> None:
        """`there` is set once the word is."""
        self.there = threading.Event()
        self._word = word.encode()
        self._data = bytearray()
        self._more = threading.Condition()

    def write(self, data: bytes, /) -> int:
        """Who is talked to says little: all of it is kept."""
        with self._more:
            self._data += data
            if self._word in self._data:
                self.there.set()
            self._more.notify_all()
        return len(data)

    def heard(self, word: str, times: int, seconds: float) -> bool:
        """Whether a word is in it so many times; waits up to `seconds` for more of it."""
        with self._more:
            if self._data.count(word.encode()) >= times:
                return True
            self._more.wait(seconds)
            return self._data.count(word.encode()) >= times

    def text(self) -> str:
        """All of it."""
        return self._data.decode("utf-8", errors="replace")
