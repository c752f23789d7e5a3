"""What the README promises of every command."""

from __future__ import annotations

import typer

from safepoint.cli import app


def test_each_command_takes_json() -> None:
    commands = vars(typer.main.get_command(app))["commands"]
    assert len(commands) > 15
    assert [name for name, one in commands.items() if not any("--json" in param.opts for param in one.params)] == []
