"""A port of this machine's own loopback interface, for commands on another one: by a reverse forward of OpenSSH.

It listens on the loopback interface there, too, for as long as it is needed; what listens here asks for its password.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from safepoint.errors import CommandFailed, SafepointError
from safepoint.hosts.command import Command, Host
from safepoint.hosts.here import Here
from safepoint.hosts.ssh import CONNECT_SECONDS, Ssh
from safepoint.hosts.talk import Heard, Later
from safepoint.progress import Cancelled, never

_FIRST, _MANY = 20_000, 12_000
"""Ports that no system gives out by itself (Linux: from 32,768 on)."""
_TRIES: Final = 4
_TAKEN: Final = "forwarding failed"  # what ssh says, whoever has the port, or where the server allows no forwarding
_WORD: Final = "safepoint-lent\n"
LOOPBACK: Final = ("127.0.0.1", "localhost")
"""Where what is listened to is reached from its own machine alone."""


class NotLent(CommandFailed):
    """Commands there do not reach what listens on this machine alone."""


@contextmanager
def lent(host: Host, address: str, port: int, *, cancelled: Cancelled = never) -> Iterator[int]:
    """The port at which commands on that host reach a server meanwhile, at the address that it has here.

    Raises:
        NotLent: the other side allows it not, or is no machine that is reached over SSH.
    """
    if isinstance(host, Here) or address not in LOOPBACK:
        yield port
        return
    if not isinstance(host, Ssh):
        raise NotLent(
            f"The host {host.name} does not reach what listens on this machine alone.",
            subject=host.name,
            remedy="Name a scratch server that it reaches ([scratch] in the plan file).",
        )
    line = _connected(host, port, cancelled)
    try:
        yield line.there
    finally:
        line.end()


def lends(host: Host) -> bool:
    """Whether what listens on this machine alone can be reached from there."""
    return isinstance(host, Here | Ssh)


def _connected(host: Ssh, port: int, cancelled: Cancelled) -> _Line:
    for left in reversed(range(_TRIES)):
        line = _Line(host.forwarding(_FIRST + secrets.randbelow(_MANY), port), cancelled)
        line.begin()
        if line.ready():
            return line
        line.end()
        if left and line.fault is not None and _TAKEN in (line.fault.found or ""):
            continue
        break
    said = "" if line.fault is None else line.fault.found or line.fault.message
    raise NotLent(
        f"The host {host.name} could not be led to the copy on this machine: {said or 'ssh did not answer'}",
        subject=f"ssh -R 127.0.0.1:{line.there}:127.0.0.1:{port} {host.settings.address}",
        remedy="Does its sshd allow it (AllowTcpForwarding, PermitListen, and no `restrict` at the key)? Or name a "
        "scratch server that it reaches ([scratch] in the plan file).",
    )


@dataclass
class _Line:
    """One connection with the forward. Its command says again what it is told: once it has, the forward is there, for
    a server takes one request after another (RFC 4254, section 4)."""

    host: Ssh
    cancelled: Cancelled
    fault: SafepointError | None = None
    _input: Later = field(default_factory=Later)
    _output: Heard = field(default_factory=lambda: Heard(_WORD))
    _thread: threading.Thread | None = None

    @property
    def there(self) -> int:
        """The port on the other side."""
        return self.host.forwarded[0] if self.host.forwarded else 0

    def begin(self) -> None:
        self._input.give(_WORD.encode())
        self._thread = threading.Thread(target=self._run, name="lent", daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        deadline = time.monotonic() + CONNECT_SECONDS + 10
        while not self._output.there.wait(0.05):
            if self._thread is None or not self._thread.is_alive() or time.monotonic() > deadline:
                break
        return self._output.there.is_set() and self._thread is not None and self._thread.is_alive()

    def end(self) -> None:
        self._input.end()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        try:
            self.host.stream(Command(("cat",)), stdin=self._input, stdout=self._output, cancelled=self.cancelled)
        except SafepointError as error:
            self.fault = error
        finally:
            self._input.end()
