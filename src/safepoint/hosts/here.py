"""Commands on the conductor's own machine."""

from __future__ import annotations

from pathlib import Path

from safepoint.hosts.command import Command
from safepoint.hosts.process import Local, ProcessHost, environment


class Here(ProcessHost):
    """This machine. Relative folders of commands start at `directory`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory

    def argv(self, command: Command) -> tuple[str, ...]:
        """The command itself."""
        return command.argv

    def local(self, command: Command, *, feeds: bool) -> Local:
        """The command itself, with its variables in its environment."""
        del feeds
        folder = self.directory / command.directory if command.directory else self.directory
        return Local(self.argv(command), environment(command), folder)
