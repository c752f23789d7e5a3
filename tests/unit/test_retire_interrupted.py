"""Ctrl-C at `safepoint retire`: a second thought, of which has to be known whether it came in time.

One that came too late leaves a slot which nobody drains any more: the server's disk fills up, if nobody is told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest
from stories import PLAN_FILE, launched
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.launch.begin import launch_folder


@pytest.mark.parametrize("begun", [False, True])
def test_it_is_said_whether_there_is_a_way_back_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    story = launched(launch_folder(load(tmp_path / "launch.toml")) / "ledger.jsonl")

    def interrupted(_plan: PlanFile, *, hurry: bool) -> NoReturn:
        if begun:
            story.ledger.append("retiring", "retiring", {"by": "ada@ops"})
        raise KeyboardInterrupt

    monkeypatch.setattr("safepoint.launch.retire.retire", interrupted)
    said = CliRunner().invoke(app, ["retire", "--now", "--plan", str(tmp_path / "launch.toml")]).stderr
    assert ("There is no way back any more" in said) is begun
    assert ("retire --now" in said and "finishes its retirement, which was begun and has not ended" in said) is begun
    answered = json.loads(CliRunner().invoke(app, ["status", "--json", "--plan", str(tmp_path / "launch.toml")]).stdout)
    first = answered["standing"]["commands"][0]["command"]
    assert first.startswith("safepoint retire --now" if begun else "safepoint rollback")
    assert ("The safe point of 09:00:0" in said and "a rollback leads back to exactly that" in said) is not begun
