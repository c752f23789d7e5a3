"""`go` and `retry` say which question they answered: a tired operator types them to the one that was read last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stories import PLAN_FILE, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.launch.begin import launch_folder
from safepoint.launch.lock import ConductorLock


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("word", ["go", "retry"])
def test_the_question_that_was_open_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, alive: bool
) -> None:
    """Somebody else has answered the first one meanwhile, and another one came."""
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = migrated(launch_folder(plan) / "ledger.jsonl").ask("gate-canary", "no login is configured", "go", "abort")
    story.order("gate-canary", "go").decided("gate-canary")
    story.ask("canary", "the error log has 41 lines", "go", "retry", "abort")
    monkeypatch.setattr("safepoint.launch.engine.send", lambda *_: None)
    lock = ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch")
    if alive:
        lock.__enter__()
    try:
        said = CliRunner().invoke(app, [word, "--plan", str(plan.path)]).stdout
        assert said.splitlines()[0] == f"{word} answers canary: the error log has 41 lines"
        answered = CliRunner().invoke(app, [word, "--plan", str(plan.path), "--json"]).stdout
        assert json.loads(answered)["answers"] == "canary"
    finally:
        lock.__exit__(None, None, None)
