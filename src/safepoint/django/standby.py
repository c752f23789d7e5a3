"""A `manage.py` that has loaded the application already, and waits for its work.

The start of Django costs most of a second, and the window is counted in seconds. So it is done before the window, and a
step of the window only hands the work over. A process that is not there any more costs nothing but this gain:
whoever needs it starts another one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from safepoint.django.managepy import Manage
from safepoint.django.piped import answers_in, asked, package, read_work, shell
from safepoint.errors import CommandFailed, Interrupted, SafepointError
from safepoint.hosts.talk import Heard, Later
from safepoint.progress import Cancelled, never

_LOOK_SECONDS: Final = 0.05
"""How often it is looked whether the process is still there."""


class Standby:
    """One process, for one piece of work. It is started by the constructor; nothing is waited for.

    When the conductor dies its input ends, and so does it.

    Args:
        lasting: it waits for more work after an answer, until it is dismissed. It holds no connection meanwhile.
    """

    def __init__(self, manage: Manage, *, lasting: bool = False) -> None:
        self._manage = manage
        self._lasting = lasting
        self._loaded = f"<<safepoint-loaded-{secrets.token_hex(8)}>>"
        self._input, self._output = Later(), Heard(self._loaded)
        self._dismissed = threading.Event()
        self._cancelled: Cancelled = never
        self._fault: SafepointError | None = None
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is still there."""
        return self._thread.is_alive()

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether the application is loaded and the process waits; looks for up to `seconds`, or until it is gone."""
        deadline = time.monotonic() + seconds
        while not self._output.there.wait(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or not self._thread.is_alive():
                break
        return self._output.there.is_set() and self._thread.is_alive() and not self._input.ended

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
        answer = self.ask_all({script: parameters}, timeout=timeout, cancelled=cancelled)[script]
        if isinstance(answer, CommandFailed):
            raise answer
        return answer

    def ask_all(
        self,
        scripts: Mapping[str, Mapping[str, Any]],
        *,
        timeout: float | None = 120,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, dict[str, Any] | CommandFailed]:
        """Run several, one after the other, as `piped.ask_all` does.

        Raises:
            CommandFailed: it ended before it answered, or took longer than `timeout` seconds.
            Interrupted: `cancelled` became true.
        """
        self._cancelled = cancelled or never
        marker = f"<<safepoint-{secrets.token_hex(8)}>>"
        self._input.give(package(scripts, marker) + b"\n")
        if not self._lasting:
            self._input.end()
        if not self._answered(marker, timeout):
            self.dismiss()
            raise CommandFailed(
                f"manage.py did not answer within {timeout:g} s.",
                subject=" ".join(self._manage.release.manage),
                remedy="Find out what it waits for, then retry.",
            )
        if isinstance(self._fault, Interrupted):
            raise self._fault
        answers = answers_in(self._manage, self._output.text(), marker)
        if answers is None:
            raise self._fault or CommandFailed(
                "manage.py ended without an answer.", subject=" ".join(self._manage.release.manage)
            )
        self._cancelled = never
        return answers

    def _answered(self, marker: str, timeout: float | None) -> bool:
        """Wait for the answer, or for the process's end, which comes with it where no more work may follow."""
        if not self._lasting:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._thread.is_alive() and not self._output.heard(marker, 2, _LOOK_SECONDS):
            if deadline is not None and time.monotonic() > deadline:
                return False
        return True

    def dismiss(self) -> None:
        """End it; for one that nobody needs any more."""
        self._dismissed.set()
        self._input.end()
        self._thread.join(10)

    def _run(self) -> None:
        command = asked(self._manage).command(*shell(read_work(self._loaded)))
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
            self._input.end()  # lets go of the thread that reads it
