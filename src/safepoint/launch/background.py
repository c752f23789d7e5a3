"""Work that goes on beside the steps: what need not be waited for now, and is waited for by a later step.

It lives in the conductor's process only. After a crash nothing of it is known any more, so the step that waits for it
must be able to do the whole work itself.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar


class Dismissable(Protocol):
    """Something that stands ready until it is used or dismissed."""

    def dismiss(self) -> None:
        """End it."""
        ...


Kept = TypeVar("Kept", bound=Dismissable)


class Background:
    """Pieces of work by name, and what stands ready for a later step."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="background")
        self._work: dict[str, Future[Any]] = {}
        self._kept: dict[str, Dismissable] = {}

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

    def close(self) -> None:
        """Wait for nothing: the process is about to end or to conduct no more."""
        for name in list(self._kept):
            self._kept.pop(name).dismiss()
        self._executor.shutdown(wait=False, cancel_futures=True)
