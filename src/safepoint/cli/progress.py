"""How far a command is: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safepoint.cli.saying import echo

if TYPE_CHECKING:
    from rich.progress import TaskID

    from safepoint.progress import Progress, Report

_EVERY_SECONDS = 5.0
_SLOW_SECONDS = 15.0


@contextmanager
def shown(*, quiet: bool) -> Iterator[Report]:
    """A place to report to. What is shown goes to standard error; `quiet` shows nothing.

    Args:
        quiet: for `--json`, whose reader wants the answer only.
    """
    if quiet:
        yield lambda _progress: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield Lines(lambda line: echo(line, err=True))


@contextmanager
def told_when_slow(what: str, *, after: float = _SLOW_SECONDS) -> Iterator[None]:
    """Say on standard error, again and again, that something is still at work which does not tell how far it is."""
    over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(after):
            echo(f"{what}: {time.monotonic() - began:.0f} s so far; Ctrl-C ends it.", err=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


class Paces:
    """How long each piece of work has been going on and how far it got; one that begins anew is timed anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()  # dump and fingerprint report from threads of their own

    def of(self, progress: Progress) -> tuple[float, float]:
        """Seconds since it began, and how much was done in them."""
        now = self._clock()
        with self._lock:
            if progress.done < self._last.get(progress.what, progress.done) or progress.what not in self._began:
                self._began[progress.what] = (now, progress.done)
            self._last[progress.what] = progress.done
            began, first = self._began[progress.what]
        return now - began, progress.done - first


class Lines:
    """Progress as lines: one when something begins, one every few seconds while it goes on, and one at its end."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._paces = Paces(clock)
        self._said: dict[str, float] = {}
        self._ended: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        """Take a report; reports may come from several threads."""
        seconds, moved = self._paces.of(progress)
        now = self._clock()
        ends = progress.total is not None and progress.done >= progress.total
        if ends and progress.what in self._ended:
            return
        (self._ended.add if ends else self._ended.discard)(progress.what)
        if not ends and now - self._said.get(progress.what, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return
        self._said[progress.what] = now
        self._write(line(progress, seconds, moved))


def line(progress: Progress, seconds: float, moved: float) -> str:
    """One line: how much is done, how fast it goes, and how long it takes still. Pure."""
    from safepoint.config import format_duration

    if progress.whole:
        return f"{progress.what}: {f'done in {format_duration(seconds)}' if progress.done else 'begun'}"
    rate = moved / seconds if seconds > 0 else 0.0
    parts = [_amount(progress.done, progress.unit)]
    if progress.total:
        so_far = parts[0] if progress.unit == "bytes" else parts[0].removesuffix(f" {progress.unit}")
        parts = [f"{so_far} of {_amount(progress.total, progress.unit)} ({progress.done / progress.total:.0%})"]
    if rate > 0:
        parts.append(f"{_amount(rate, progress.unit)}/s")
        if progress.total and progress.total > progress.done:
            parts.append(f"{format_duration((progress.total - progress.done) / rate)} left")
    return f"{progress.what}: {', '.join(parts)}"


def _amount(value: float, unit: str) -> str:
    from safepoint.config import format_bytes

    return format_bytes(int(value)) if unit == "bytes" else f"{value:,.0f} {unit}".rstrip()


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    from safepoint.cli.terminal import Terminal

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Bars(*columns, console=Terminal(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}
        paces, lock = Paces(), threading.Lock()

        def report(progress: Progress) -> None:
            with lock:
                if progress.what not in tasks:
                    tasks[progress.what] = bars.add_task(progress.what, total=progress.total, said="")
            said = line(progress, *paces.of(progress)).removeprefix(f"{progress.what}: ")
            bars.update(tasks[progress.what], completed=progress.done, total=progress.total, said=said)

        yield report
