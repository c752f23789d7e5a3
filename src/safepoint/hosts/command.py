"""A command as data: what would run, with which environment, and how it ended. No process is started here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote


@dataclass(frozen=True)
class Command:
    """One command to run on some host.

    `env` may be shown to anyone. `secrets` are environment variables too, but never reach an argv, a log, the
    ledger or `repr`. `directory` is a folder on the host; None means the host's own default.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: str | None = None

    def shown(self) -> str:
        """The command as a person would type it, without its secrets' values."""
        names = [f"{name}=***" for name in self.secrets]
        public = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*names, *public, shlex.join(self.argv)])

    @property
    def misleading(self) -> tuple[str, ...]:
        """Variables that must not come to it from where it runs: of a command that is told its server by PGHOST libpq
        would be led elsewhere by them (https://www.postgresql.org/docs/current/libpq-pgservice.html)."""
        return ("PGSERVICE", "PGHOSTADDR") if "PGHOST" in self.env else ()

    def scrub(self, text: str) -> str:
        """Remove the values of the secrets from a text that the command printed, as they are or as in a URL."""
        values = {form for value in self.secrets.values() if value for form in (value, quote(value, safe=""))}
        # The longest first: one secret may be a part of another (a password in a connection URL).
        for value in sorted(values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text


@dataclass(frozen=True)
class Result:
    """How a command ended. `stdout` and `stderr` are decoded leniently.

    `stderr` holds no secret of the command. `stdout` is data and stays as it was printed (a password that is also
    a database's name must not change an answer): `command.scrub` it before it is shown to anyone.

    `truncated` says that one of them was too long and only its end was kept.
    """

    command: Command
    code: int
    stdout: str
    stderr: str
    seconds: float
    truncated: bool = False


class Source(Protocol):
    """What a command's standard input is read from. `read` may wait; empty bytes are the end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""
        ...


class Sink(Protocol):
    """What a command's output is written to; may take less than it is given, as a raw file does."""

    def write(self, data: bytes, /) -> int | None:
        """How many bytes were taken; None for all."""
        ...


class Host(Protocol):
    """A place where commands run.

    Promises: the exit code is the remote command's own; output is streamed, not collected, where a sink is given;
    a broken connection is a `CommandFailed`, never a short success; secrets are handed over by the environment
    only; a command that is cancelled or runs out of time is ended, on the other side too as far as can be.
    """

    name: str

    def argv(self, command: Command) -> tuple[str, ...]:
        """The local process that would carry the command out. Pure; holds no secret."""
        ...

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout: float | None = None,
        stdin: bytes | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run to the end and collect the output (for commands that print little: at most some MB are kept).

        Raises:
            CommandFailed: it could not be started, ran out of `timeout` seconds, or (with `check`) exited non-zero.
            Interrupted: `cancelled` became true while it ran.
        """
        ...

    def stream(
        self,
        command: Command,
        *,
        stdin: Source | None = None,
        stdout: Sink | None = None,
        timeout: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run with its standard input read from, or its output written to, an object such as a file, unbuffered by us.

        Raises as `run`; any non-zero exit is an error.
        """
        ...


def command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    directory: str | None = None,
) -> Command:
    """Build a `Command` from any sequence of words."""
    return Command(tuple(argv), dict(env or {}), dict(secrets or {}), directory)
