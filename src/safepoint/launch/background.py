"""Work that goes on beside the steps: what need not be waited for now, and is waited for by a later step.

It lives in the conductor's process only. After a crash nothing of it is known any more, so the step that waits for it
must be able to do the whole work itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from safepoint.progress import Cancelled


class Dismissable(Protocol):
    """Something that stands ready until it is used or dismissed."""

    def dismiss(self) -> None:
        """End it."""
        ...


Kept = TypeVar("Kept", bound=Dismissable)


class Background:
    """Pieces of work by name, and what stands ready for a later step.

    Some work comes to an end (`begin`, `join`), some goes on until it is told (`go_on`, `end`).
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="background")
        self._work: dict[str, Future[Any]] = {}
        self._kept: dict[str, Dismissable] = {}
        self._stops: dict[str, threading.Event] = {}

    def begin(self, name: str, work: Callable[[], Any]) -> None:
        """Start it, unless it was started already."""
        if name not in self._work:
            self._work[name] = self._executor.submit(work)

    def under_way(self, name: str) -> bool:
        """Whether such work was begun and has not ended."""
        future = self._work.get(name)
        return future is not None and not future.done()

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

    def keep(self, name: str, thing: Dismissable) -> None:
        """Something for a later step, in place of what stood there under that name."""
        former = self._kept.pop(name, None)
        if former is not None:
            former.dismiss()
        self._kept[name] = thing

    def take(self, name: str, kind: type[Kept]) -> Kept | None:
        """What was kept under that name, once. None after a crash: the step must be able to do without it."""
        thing = self._kept.pop(name, None)
        return thing if isinstance(thing, kind) else None

    def go_on(self, name: str, work: Callable[[Cancelled], Any]) -> None:
        """Start work that goes on until its argument says stop, unless it is under way."""
        if name not in self._work:
            self._stops[name] = threading.Event()
            stop = self._stops[name].is_set
            self._work[name] = self._executor.submit(work, stop)

    def stop(self, name: str) -> None:
        """Tell it to stop, and wait for nothing."""
        if name in self._stops:
            self._stops[name].set()

    def end(self, name: str) -> BaseException | None:
        """Stop it and wait for that; gives what it ended with where that was an error. It is forgotten afterwards."""
        self.stop(name)
        future = self._work.pop(name, None)
        self._stops.pop(name, None)
        return None if future is None else future.exception()

    def failure(self, name: str) -> BaseException | None:
        """What it ended with, where it has ended with an error."""
        future = self._work.get(name)
        return future.exception() if future is not None and future.done() else None

    def close(self) -> None:
        """Wait for nothing: the process is about to end or to conduct no more."""
        for name in list(self._kept):
            self._kept.pop(name).dismiss()
        for stop in self._stops.values():
            stop.set()
        self._executor.shutdown(wait=False, cancel_futures=True)
