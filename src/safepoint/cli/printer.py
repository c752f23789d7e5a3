"""Lines written by a thread of their own: a terminal that takes none (Ctrl-S, a link that stalls) holds nobody up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Line = TypeVar("Line")

_MOST: Final = 10_000
_PATIENCE: Final = 2.0


class Printer(Generic[Line]):
    """Takes lines and never waits. What finds ten thousand waiting before it is left out.

    Args:
        write: writes one; whatever it raises has to be dealt with in it.
    """

    def __init__(self, write: Callable[[Line], None]) -> None:
        self._write = write
        self._waiting: queue.Queue[Line | None] = queue.Queue(_MOST)
        self._thread = threading.Thread(target=self._work, name="printer", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (line := self._waiting.get()) is not None:
            self._write(line)

    def __call__(self, line: Line) -> None:
        """Write it soon."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            return

    def close(self) -> None:
        """Write what is left, unless nobody takes it."""
        try:
            self._waiting.put(None, timeout=_PATIENCE)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)
