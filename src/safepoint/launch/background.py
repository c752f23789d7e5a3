"""Work that goes on beside the steps: what need not be waited for now, and is waited for by a later step.

It lives in the conductor's process only. After a crash nothing of it is known any more, so the step that waits for it
must be able to do the whole work itself.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """Pieces of work by name."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="background")
        self._work: dict[str, Future[Any]] = {}

    def begin(self, name: str, work: Callable[[], Any]) -> None:
        """Start it, unless it was started already."""
        if name not in self._work:
            self._work[name] = self._executor.submit(work)

    def join(self, name: str) -> bool:
        """Wait for it; whether there was such work. It is forgotten afterwards, so that it can be begun again.

        Raises:
            SafepointError: what the work raised.
        """
        future = self._work.pop(name, None)
        if future is None:
            return False
        future.result()
        return True

    def close(self) -> None:
        """Wait for nothing: the process is about to end or to conduct no more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
