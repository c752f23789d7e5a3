"""Commands on another machine, by the operator's own OpenSSH client (and so by their `ssh_config`, agent and keys)."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from safepoint.config import SshHost
from safepoint.errors import CommandFailed
from safepoint.hosts import prelude
from safepoint.hosts.command import Command, Result
from safepoint.hosts.process import Local, ProcessHost

_CONNECTION_LOST = 255
"""What `ssh` itself exits with on an error; see ssh(1), "Exit status"."""

# Nobody is there to type a password, and a dead link is found out within half a minute. The operator's own
# options come first: of several values ssh takes the first.
_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")

CONNECT_SECONDS = 30
"""How long a connection may take to be made. Until somebody is logged in, ssh asks nobody whether they are alive: it
would wait two minutes for a machine that is off, and for ever for one that takes the connection and hangs."""


class Ssh(ProcessHost):
    """A machine that is reached over SSH."""

    def __init__(self, name: str, settings: SshHost, folder: Path, forwarded: tuple[int, int] | None = None) -> None:
        """`forwarded`: a port of the loopback interface there, which leads to one of the loopback interface here."""
        self.name = name
        self.settings = settings
        self.folder = folder
        self.forwarded = forwarded

    def forwarding(self, there: int, here: int) -> Ssh:
        """The same machine, over connections that lend it a port. Nothing is connected."""
        return Ssh(self.name, self.settings, self.folder, (there, here))

    def argv(self, command: Command, *, feeds: bool = False) -> tuple[str, ...]:
        """`ssh ... ADDRESS 'exec sh -c PRELUDE safepoint COMMAND'`; `feeds`: the command has a standard input."""
        settings = self.settings
        words = ["ssh", *self._forward(), *settings.options, *_OPTIONS, "-o", f"ConnectTimeout={CONNECT_SECONDS}"]
        if settings.port is not None:
            words += ["-p", str(settings.port)]
        if settings.user is not None:
            words += ["-l", settings.user]
        if settings.identity is not None:
            words += ["-i", str(self.folder / settings.identity.expanduser()), "-o", "IdentitiesOnly=yes"]
        public = [f"{name}={value}" for name, value in command.env.items()]
        remote = prelude.wrapped(
            ["env", *public, *command.argv] if public else command.argv,
            secrets=tuple(command.secrets),
            directory=_joined(settings.directory, command.directory),
            feeds=feeds,
            without=command.misleading,
        )
        # `exec` is known to every login shell (sh, bash, zsh, fish, csh), and leaves none of them in between.
        return (*words, "--", settings.address, f"exec {shlex.join(remote)}")

    def _forward(self) -> tuple[str, ...]:
        if self.forwarded is None:
            return ()
        there, here = self.forwarded
        # A connection of its own: a shared one (ControlMaster) would keep the port when this one is long gone.
        alone = ("-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes")
        return (*alone, "-R", f"127.0.0.1:{there}:127.0.0.1:{here}")

    def local(self, command: Command, *, feeds: bool) -> Local:
        """The ssh client, with the secrets as the first lines of its standard input."""
        prelude.check(command, self.name)
        argv = self.argv(command, feeds=feeds)
        return Local(
            argv, dict(os.environ), self.folder, preamble=prelude.spoken(command.secrets), hold_stdin=not feeds
        )

    def lost(self, result: Result) -> CommandFailed | None:
        """Exit code 255 is ssh's own: no connection, or it broke."""
        if result.code != _CONNECTION_LOST:
            return None
        settings = self.settings
        place = f"{settings.user}@{settings.address}" if settings.user else settings.address
        return CommandFailed(
            f"The SSH connection to {self.name} ({place}) could not be made, or broke while "
            f"{result.command.argv[0]} ran.",
            subject=result.command.shown(),
            expected="a connection that lasts until the command ends",
            found=result.stderr.strip() or "exit code 255 from ssh",
            remedy=f"Try `ssh {place} true` by hand; then see on {self.name} whether the command still runs.",
        )


def _joined(base: str | None, directory: str | None) -> str | None:
    if base is None or directory is None:
        return directory or base
    return directory if directory.startswith("/") else f"{base.rstrip('/')}/{directory}"
