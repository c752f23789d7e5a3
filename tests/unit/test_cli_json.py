"""What the README promises of every command."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from safepoint.backup.shelf import _damaged
from safepoint.cli import app
from safepoint.cli.snapshots import _new_id
from safepoint.errors import ProofFailed
from safepoint.stores.places import is_id


def test_each_command_takes_json() -> None:
    commands = vars(typer.main.get_command(app))["commands"]
    assert len(commands) > 15
    assert [name for name, one in commands.items() if not any("--json" in param.opts for param in one.params)] == []


def test_two_machines_that_take_a_snapshot_at_the_same_second_call_it_differently() -> None:
    now = datetime(2026, 3, 1, 2, 0, 0, tzinfo=UTC)
    ids = {_new_id("shop", now) for _ in range(50)}
    assert len(ids) == 50
    assert all(is_id(one) and _damaged(one, "here", ProofFailed("x")).taken == now for one in ids)
