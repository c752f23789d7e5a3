"""An order that cannot be written down, because Safepoint's own disk takes nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from stories import PLAN_FILE, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.errors import SafepointError
from safepoint.launch import engine
from safepoint.launch.begin import launch_folder


def test_no_other_state_folder_is_advised_where_a_launch_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty one nothing is known of a launch that has the site closed."""
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    migrated(launch_folder(plan) / "ledger.jsonl").ask("gate-canary", "in doubt", "go", "abort")

    def read_only(*_: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(engine, "send", read_only)
    said = CliRunner().invoke(app, ["go", "--plan", str(plan.path)]).exception
    assert isinstance(said, SafepointError), said
    assert said.subject == str(launch_folder(plan)) and "launch.state" not in str(said.remedy)
    assert "mount it for writing; then run the command again" in str(said.remedy)
