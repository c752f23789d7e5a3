"""Whoever conducts is named by the command that was typed, not as a launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, launched, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.errors import Refused
from safepoint.launch import conductor
from safepoint.launch.begin import launch_folder


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return launch_folder(load(tmp_path / "launch.toml")) / "ledger.jsonl"


def conducts_as(ledger: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> str:
    class Named(conductor.Conductor):
        def __enter__(self) -> Any:
            with self._lock:
                raise Refused(self._lock.path.read_text())

    monkeypatch.setattr(conductor, "Conductor", Named)
    said = CliRunner().invoke(app, [word, "--plain", "--plan", str(ledger.parents[3] / "launch.toml")]).exception
    assert isinstance(said, Refused), said
    return said.message


@pytest.mark.parametrize("word", ["launch", "abort", "rollback"])
def test_a_launch_and_what_takes_it_back(ledger: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    migrated(ledger)
    assert f'"command": "safepoint {word}"' in conducts_as(ledger, monkeypatch, word)


def test_a_return(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story: Story = launched(ledger).begin("rollback").way_back("rollback ordered by grace")
    story.done("back-swap", 0.1)
    assert '"command": "safepoint return"' in conducts_as(ledger, monkeypatch, "return")
