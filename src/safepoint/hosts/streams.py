"""The input, output and errors of a process, each carried by a thread of its own."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from safepoint.hosts.command import Sink, Source

KEEP_BYTES = 8 * 1024 * 1024
"""How much of a collected output is kept: its end."""

_CHUNK = 1024 * 1024
_PIPE_SECONDS = 0.2  # after which an open pipe is asked whether its process has ended: data wakes at once
_QUIET_SECONDS = 1.0


class Bytes:
    """Bytes in memory as something to read from; unlike BytesIO it does not copy them."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most; none at the end."""
        chunk, self._view = self._view[:size], self._view[size:]
        return bytes(chunk)


class Tail:
    """The end of an output, at most twice `KEEP_BYTES` in memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.truncated = False

    def write(self, chunk: bytes) -> int:
        """Take more of the output, and forget of its beginning what is too much."""
        self._data += chunk
        if len(self._data) > 2 * KEEP_BYTES:
            del self._data[:-KEEP_BYTES]
            self.truncated = True
        return len(chunk)

    def text(self) -> str:
        """What is known of it, from the beginning of a line on."""
        data = bytes(self._data)
        if self.truncated:
            # The first line is cut; with it goes half a secret that `scrub` could not find.
            data = data.partition(b"\n")[2]
        return data.decode("utf-8", errors="replace")


class Streams:
    """The threads that carry a process's input, output and errors. The first fault of any of them is kept.

    `exited` is set when the process has ended. All of them sleep meanwhile: beside a long migration this process must
    not be at work itself.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        source: Source | None,
        sink: Sink | None,
        *,
        preamble: bytes,
        hold_stdin: bool,
    ) -> None:
        self.out, self.err = Tail(), Tail()
        self.fault: BaseException | None = None
        self.exited = threading.Event()
        self._process = process
        jobs: list[Callable[[], None]] = [
            lambda: self._drain(process.stdout, sink if sink is not None else self.out, patient=sink is not None),
            lambda: self._drain(process.stderr, self.err, patient=False),
        ]
        self._readers = [threading.Thread(target=self._guard, args=(job,), daemon=True) for job in jobs]
        threads = list(self._readers)
        if process.stdin is not None:
            feed = threading.Thread(
                target=self._guard, args=(lambda: self._feed(preamble, source, hold=hold_stdin),), daemon=True
            )
            threads.append(feed)
        threads.append(threading.Thread(target=self._reap, daemon=True))
        for thread in threads:
            thread.start()

    def _reap(self) -> None:
        self._process.wait()  # with a timeout it would look several times in each 20 ms
        self.exited.set()

    def finished(self, seconds: float) -> bool:
        """Whether all output has been carried; waits up to `seconds` for it."""
        alive = [thread for thread in self._readers if thread.is_alive()]
        if alive:
            alive[0].join(seconds)
        return not any(thread.is_alive() for thread in self._readers)

    def close(self) -> None:
        """Let go of the pipes. A thread that is stuck in the caller's own stream keeps only that stream."""
        self.exited.set()
        for thread in self._readers:
            thread.join(_QUIET_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # kept for the thread that waits, which raises it
            self.fault = self.fault or error

    def _feed(self, preamble: bytes, source: Source | None, *, hold: bool) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        # A command may end, or close its input, before it has read all of it: its exit code tells whether that is well.
        with suppress(BrokenPipeError):
            _write_all(pipe, preamble)
            while source is not None and (chunk := source.read(_CHUNK)):
                _write_all(pipe, chunk)
        if not hold:
            with suppress(OSError):
                pipe.close()

    def _drain(self, pipe: IO[bytes] | None, sink: Sink, *, patient: bool) -> None:
        if pipe is None:
            return
        descriptor = pipe.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        quiet_since: float | None = None
        while True:
            if poll.poll(_PIPE_SECONDS * 1000):
                quiet_since = None
                chunk = os.read(descriptor, _CHUNK)
                if not chunk:
                    return
                _write_all(sink, chunk)
            elif self.exited.is_set() and not patient:
                quiet_since = quiet_since or time.monotonic()
                if time.monotonic() - quiet_since > _QUIET_SECONDS:
                    return


def _write_all(sink: Sink, data: bytes) -> None:
    """Write everything: a raw file may take less than it is given."""
    while data:
        written = sink.write(data)
        if written is None or written >= len(data):
            return
        data = data[written:]
