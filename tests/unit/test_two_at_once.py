"""Two terminals order the same thing in the moment in which nobody conducts: who was slower is told what goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from stories import PLAN_FILE, launched
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.errors import Refused
from safepoint.launch import lock
from safepoint.launch.begin import launch_folder


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rollback", "The way back is being taken already, since"),
        ("rollback --discard", "The way back is being taken already, since"),
        ("abort", "The launch accounting-2.0-20260301 is done: it was launched."),
    ],
)
def test_who_was_slower_is_told_that_the_way_back_is_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    """It was told to give `go` or `hold`, of which neither helps."""
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = launched(launch_folder(plan) / "ledger.jsonl")
    real, asked = lock.held, list[bool]()

    def held(*words: object) -> bool:
        """Nobody conducts when the slower one looks; by the time that it would, the quicker one does."""
        asked.append(len(asked) > 0 and real(*words))  # type: ignore[arg-type]
        return asked[-1]

    def begin() -> None:
        time.sleep(1.0)
        story.begin("rollback").way_back("rollback ordered by ada@ops").begun("back-ahead")

    monkeypatch.setattr(lock, "held", held)
    quicker = threading.Thread(target=begin)
    with lock.ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint rollback"):
        quicker.start()
        done = CliRunner().invoke(app, [*word.split(), "--plan", str(plan.path), "--plain"])
        quicker.join()
    assert isinstance(done.exception, Refused), done.output
    assert done.exception.message.startswith(said)
    assert "go, hold" not in str(done.exception.remedy)
