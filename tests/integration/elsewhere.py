"""A host that only a stream leaves."""

from __future__ import annotations

from pathlib import Path

from safepoint.hosts.command import Command
from safepoint.hosts.process import Local, ProcessHost, environment


class Elsewhere(ProcessHost):
    """This machine with the programs of a folder, as ssh would find them there."""

    def __init__(self, bin_dir: Path) -> None:
        self.name = "elsewhere"
        self._bin_dir = bin_dir

    def argv(self, command: Command) -> tuple[str, ...]:
        return (str(self._bin_dir / command.argv[0]), *command.argv[1:])

    def local(self, command: Command, *, feeds: bool) -> Local:
        return Local(self.argv(command), environment(command))
