"""Where commands run: here, inside a Compose service, or over SSH. Start with `open_host`."""

from __future__ import annotations

from pathlib import Path

from safepoint.config import AnyHost, ComposeHost, HereHost
from safepoint.hosts.command import Command, Host, Result, command
from safepoint.hosts.compose import Compose
from safepoint.hosts.here import Here
from safepoint.hosts.ssh import Ssh

__all__ = ["Command", "Host", "Result", "command", "open_host"]


def open_host(name: str, settings: AnyHost, folder: Path) -> Host:
    """The host that the plan file calls `name`. Nothing is connected before the first command.

    Args:
        folder: where the plan file lies; relative paths of the settings start there.
    """
    if isinstance(settings, HereHost):
        return Here(name, (folder / (settings.directory or "")).resolve())
    if isinstance(settings, ComposeHost):
        return Compose(name, settings, folder.resolve())
    return Ssh(name, settings, folder.resolve())
