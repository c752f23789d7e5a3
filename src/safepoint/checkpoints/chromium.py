"""Chromium for one visit, in a process of its own, which may be started before there is anything to visit.

That keeps the driver out of the conductor's memory, and lets a browser that hangs be ended with all its children. The
start takes a second or more, which a launch spends before its window. When the conductor dies, the process sees the
end of its input, and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from safepoint.hosts.temporary import HeldFolder

_SPARE_SECONDS = 15
"""How much longer than the visit may take its process may take to begin and to end."""


@dataclass(frozen=True)
class Visit:
    """What the test user does: everything that either way of visiting needs. The password is never shown."""

    base_url: str
    public_url: str
    path: str
    username: str
    password: str = field(repr=False)
    form_path: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    expect: str | None = None
    cookies: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 30.0


@dataclass(frozen=True)
class Outcome:
    """How far the visit came. `way` is "Chromium" or "HTTP session"; `stage` is where it stopped."""

    ok: bool
    way: str
    stage: str
    said: str
    screenshot: str | None = None
    started: bool = True


class Chromium:
    """A browser that starts now, and makes one visit when it is told to. `dismiss` it, visited or not."""

    def __init__(self, executable: str, base_url: str, public_url: str, *, timeout: float = 30.0) -> None:
        self.base_url, self.public_url = base_url, public_url
        # The profile is thrown away with this folder.
        self._folder = HeldFolder("safepoint-browsing-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "safepoint.checkpoints.browser"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": self._folder.name, "HOME": self._folder.name},
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._waits: bool | None = None
        self._not_started: dict[str, Any] | None = None
        self._tell({"executable": executable, "base_url": base_url, "public_url": public_url, "timeout": timeout})

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it is started and waits for its visit; looks for up to `seconds`."""
        if self._waits is None:
            answer = self._next(seconds)
            if answer is not None:
                self._waits = bool(answer.get("ready"))
                self._not_started = None if self._waits else answer
        return bool(self._waits) and self._process.poll() is None

    def visit(self, task: Visit, screenshots: Path | None) -> Outcome:
        """Make the visit. The task, password included, goes over standard input."""
        limit = task.timeout + _SPARE_SECONDS
        deadline = time.monotonic() + limit
        if not self.ready(limit):
            return self._no_start(task, limit)
        self._waits = False
        self._tell({**asdict(task), "folder": str(screenshots) if screenshots else None})
        answer = self._next(deadline - time.monotonic())
        if answer is not None:
            return Outcome(way="Chromium", **answer)
        if self._process.poll() is None:
            return Outcome(False, "Chromium", "the browser", f"it did not end within {limit:.0f} s")
        return Outcome(False, "Chromium", "starting", self._last_words(task), started=False)

    def dismiss(self) -> None:
        """End it, with everything that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(1)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._folder.cleanup()

    def _no_start(self, task: Visit, limit: float) -> Outcome:
        if self._not_started is not None:
            return Outcome(way="Chromium", **self._not_started)
        if self._process.poll() is None:
            return Outcome(False, "Chromium", "the browser", f"it did not start within {limit:.0f} s", started=False)
        return Outcome(False, "Chromium", "starting", self._last_words(task), started=False)

    def _last_words(self, task: Visit) -> str:
        self._readers[1].join(1)
        said = b"".join(self._errors).decode(errors="replace").strip().rpartition("\n")[2]
        return said.replace(task.password, "***")[:300]

    def _tell(self, line: Mapping[str, Any]) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(line).encode() + b"\n")
                self._process.stdin.flush()

    def _next(self, seconds: float) -> dict[str, Any] | None:
        """Its next line of JSON; None where none comes in time, or it ended."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                self._lines.put(None)  # it has ended, for whoever asks again
                return None
            with suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    return answer

    def _read(self, pipe: IO[bytes] | None) -> None:
        for line in pipe or ():
            self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def _read_errors(self, pipe: IO[bytes] | None) -> None:
        for line in pipe or ():
            self._errors.append(line)
            del self._errors[:-20]


def browse(task: Visit, executable: str, screenshots: Path | None, standby: Chromium | None = None) -> Outcome:
    """Carry out a visit in Chromium: in one that stands ready for these addresses, or in one that is started now."""
    there = standby is not None and (standby.base_url, standby.public_url) == (task.base_url, task.public_url)
    if standby is not None and there and standby.ready():
        return standby.visit(task, screenshots)
    browser = Chromium(executable, task.base_url, task.public_url, timeout=task.timeout)
    try:
        return browser.visit(task, screenshots)
    finally:
        browser.dismiss()
