"""A `manage.py` that has loaded the application already, and waits for its work.

The start of Django costs most of a second, and the window is counted in seconds. So it is done before the window, and a
step of the window only hands the work over. A process that is not there any more costs nothing but this gain:
whoever needs it starts another one.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from safepoint.django.managepy import Manage
from safepoint.django.piped import answers_in, package, read_work
from safepoint.errors import CommandFailed, Interrupted, SafepointError
from safepoint.progress import Cancelled, never


class Standby:
    """One process, for one piece of work. It is started by the constructor; nothing is waited for.

    When the conductor dies its input ends, and so does it.
    """

    def __init__(self, manage: Manage) -> None:
        self._manage = manage
        self._marker = f"<<safepoint-{secrets.token_hex(8)}>>"
        self._loaded = f"<<safepoint-loaded-{secrets.token_hex(8)}>>"
        self._input, self._output = _Later(), _Heard(self._loaded)
        self._dismissed = threading.Event()
        self._cancelled: Cancelled = never
        self._fault: SafepointError | None = None
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)
        self._thread.start()

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether the application is loaded and the process waits; looks for up to `seconds`."""
        self._output.loaded.wait(seconds)
        return self._output.loaded.is_set() and self._thread.is_alive() and not self._input.given

    def ask(
        self,
        script: str,
        parameters: Mapping[str, Any],
        *,
        timeout: float | None = 120,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """Run a script of `safepoint.django.scripts` in it and give back its answer, as `piped.ask` does.

        Raises:
            CommandFailed: it ended before it answered, took longer than `timeout` seconds, or the script raised.
            Interrupted: `cancelled` became true.
        """
        self._cancelled = cancelled or never
        self._input.give(package({script: parameters}, self._marker))
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.dismiss()
            raise CommandFailed(
                f"manage.py did not answer within {timeout:g} s.",
                subject=" ".join(self._manage.release.manage),
                remedy="Find out what it waits for, then retry.",
            )
        if isinstance(self._fault, Interrupted):
            raise self._fault
        answers = answers_in(self._manage, self._output.text(), self._marker)
        if answers is None:
            raise self._fault or CommandFailed(
                "manage.py ended without an answer.", subject=" ".join(self._manage.release.manage)
            )
        answer = answers[script]
        if isinstance(answer, CommandFailed):
            raise answer
        return answer

    def dismiss(self) -> None:
        """End it; for one that nobody needs any more."""
        self._dismissed.set()
        self._input.give(b"")
        self._thread.join(10)

    def _run(self) -> None:
        command = self._manage.command("shell", "-v", "0", "-c", read_work(self._loaded))
        try:
            self._manage.host.stream(
                command,
                stdin=self._input,
                stdout=self._output,
                cancelled=lambda: self._dismissed.is_set() or self._cancelled(),
            )
        except SafepointError as error:
            self._fault = error
        finally:
            self._input.give(b"")  # lets go of the thread that reads it


class _Later:
    """A standard input whose bytes are given later; until then `read` waits."""

    def __init__(self) -> None:
        self._given = threading.Event()
        self._data = b""

    @property
    def given(self) -> bool:
        """Whether there is something to read, or the end."""
        return self._given.is_set()

    def give(self, data: bytes) -> None:
        """All of it; only what is given first counts."""
        if not self._given.is_set():
            self._data = data
            self._given.set()

    def read(self, size: int, /) -> bytes:
        """Waits for the bytes."""
        self._given.wait()
        chunk, self._data = self._data[:size], self._data[size:]
        return chunk


class _Heard:
    """What the process printed, and whether the word is among it that says that it is loaded."""

    def __init__(self, word: str) -> None:
        self.loaded = threading.Event()
        self._word = word.encode()
        self._data = bytearray()

    def write(self, data: bytes, /) -> int:
        """A management command prints little: all of it is kept."""
        self._data += data
        if self._word in self._data:
            self.loaded.set()
        return len(data)

    def text(self) -> str:
        """All of it."""
        return self._data.decode("utf-8", errors="replace")
