"""Signals as an order to end: what is under way is ended, what was made is removed, and the person hears what is so."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# A closed terminal (SIGHUP) is one, too, unless the command was told to outlive it (nohup).
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Order:
    """True once a signal came; `name` is the first one's. Nothing is raised, so no removing is broken off half-way."""

    def __init__(self, ending: str) -> None:
        self._ending = ending
        self.name: str | None = None

    def __call__(self) -> bool:
        return self.name is not None

    def came(self, number: int, _frame: object) -> None:
        """A signal: the first is obeyed, and of further ones it is said that the first is."""
        again = self.name is not None
        self.name = self.name or signal.Signals(number).name
        told = f"ending already ({self.name}): {self._ending}" if again else f"{self.name}: {self._ending}"
        # A handler may run in the middle of any print: it uses no buffer of this process.
        os.write(sys.stderr.fileno(), f"\nsafepoint: {told}\n".encode())


@contextmanager
def ordered(ending: str) -> Iterator[Order]:
    """What becomes true by a signal, while this lasts. `ending` says what is done then.

    Once one came, this process is about to end: a further one, then, must not change how.
    """
    order = Order(ending)
    former = {one: signal.getsignal(one) for one in _SIGNALS}
    for one, handler in former.items():
        if one != signal.SIGHUP or handler is not signal.SIG_IGN:
            signal.signal(one, order.came)
    try:
        yield order
    finally:
        for one, handler in former.items():
            signal.signal(one, signal.SIG_IGN if order() else handler)
