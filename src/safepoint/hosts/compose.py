"""Commands inside a service of Docker Compose, by `docker compose exec -T` (or the older `docker-compose`)."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from safepoint.config import ComposeHost
from safepoint.errors import CommandFailed
from safepoint.hosts import prelude
from safepoint.hosts.command import Command, Result
from safepoint.hosts.process import Local, ProcessHost

_REMEDIES = (
    ("is not running", "Start it: `{compose} up -d {service}`."),
    ("no such service", "Correct `service` in the plan file, or `project`, the folder of the compose file."),
    ("No such service", "Correct `service` in the plan file, or `project`, the folder of the compose file."),
    ("no configuration file", "Correct `project` in the plan file: the folder of the compose file, or the file."),
    ("Can't find a suitable", "Correct `project` in the plan file: the folder of the compose file, or the file."),
    ("Cannot connect to the Docker daemon", "Is the Docker daemon running, and may this user use it?"),
    ("permission denied while trying to connect", "Is the Docker daemon running, and may this user use it?"),
)


class Compose(ProcessHost):
    """A running service of a Compose project. `project` is its folder, or its compose file."""

    def __init__(self, name: str, settings: ComposeHost, folder: Path) -> None:
        self.name = name
        self.settings = settings
        project = folder / settings.project
        self.file = project if project.suffix in {".yml", ".yaml"} else None
        self.project = project.parent if self.file else project

    def argv(self, command: Command, *, feeds: bool = False) -> tuple[str, ...]:
        """`docker compose ... exec -T SERVICE sh -c PRELUDE safepoint COMMAND`."""
        settings = self.settings
        words = [*settings.command, "--project-directory", str(self.project)]
        if self.file is not None:
            words += ["--file", str(self.file)]
        words += ["exec", "-T"]
        if settings.user is not None:
            words += ["--user", settings.user]
        folder = PurePosixPath(settings.directory or "", command.directory or "")
        if folder.is_absolute():
            words += ["--workdir", str(folder)]
        for name, value in command.env.items():
            words += ["--env", f"{name}={value}"]
        # A relative folder starts at the image's own working directory, which only the container knows.
        relative = None if folder.is_absolute() or folder == PurePosixPath() else str(folder)
        inner = prelude.wrapped(
            command.argv,
            secrets=tuple(command.secrets),
            directory=relative,
            feeds=feeds,
            without=command.misleading,
        )
        return (*words, settings.service, *inner)

    def local(self, command: Command, *, feeds: bool) -> Local:
        """The Compose client, with the secrets as the first lines of its standard input."""
        prelude.check(command, self.name)
        argv = self.argv(command, feeds=feeds)
        preamble = prelude.spoken(command.secrets)
        # The older docker-compose looks for its file where it is started.
        return Local(argv, dict(os.environ), self.project, preamble=preamble, hold_stdin=not feeds)

    def lost(self, result: Result) -> CommandFailed | None:
        """Compose has no exit code of its own: what it says on its standard error tells."""
        remedy = next((text for sign, text in _REMEDIES if sign in result.stderr), None)
        if remedy is None:
            return None
        compose = " ".join(self.settings.command)
        return CommandFailed(
            f"The Compose service {self.settings.service} ({self.name}) cannot be reached.",
            subject=result.command.shown(),
            found=result.stderr.strip(),
            remedy=remedy.format(compose=compose, service=self.settings.service),
        )
