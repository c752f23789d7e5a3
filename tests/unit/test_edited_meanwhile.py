"""A plan file that is edited while its launch is conducted counts for the next conductor, and that is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from stories import PLAN_FILE, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.launch.begin import launch_folder, move
from safepoint.launch.edited import Edits, edited
from safepoint.launch.last_read import keep_read
from safepoint.launch.lock import ConductorLock

MANY = ["size_growth = 0.5", "connections_share = 0.5", "capture_wal_gb = 2", "error_lines = 7"]
MANY += ['error_pattern = "E"', 'database_error_pattern = "E"']
TEXT = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")


@pytest.fixture
def conducted(tmp_path: Path) -> PlanFile:
    """A launch that waits at a step, and what its conductor read."""
    (tmp_path / "launch.toml").write_text(TEXT)
    plan = load(tmp_path / "launch.toml")
    migrated(launch_folder(plan) / "ledger.jsonl").ask("checkpoints", "too many errors are logged", "retry", "abort")
    keep_read(plan, launch_folder(plan))
    return plan


def write(plan: PlanFile, more: str) -> None:
    plan.path.write_text(TEXT + more)
    os.utime(plan.path, ns=(0, len(more)))


def told(plan: PlanFile, word: str, *, alive: bool = True) -> dict[str, object]:
    words = [word, "--plan", str(plan.path), "--json"]
    if not alive:
        return dict(json.loads(CliRunner().invoke(app, words).output))
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"):
        return dict(json.loads(CliRunner().invoke(app, words).output))


def test_status_says_what_the_conductor_does_not_know(conducted: PlanFile) -> None:
    assert told(conducted, "status")["edited"] is None
    write(conducted, "[checkpoints]\nerror_lines = 7\n")
    said = str(told(conducted, "status")["edited"])
    assert said.startswith("launch.toml was edited since the conductor read it (checkpoints.error_lines).")
    assert "`safepoint launch` goes on where it was" in said and "The times" not in said


def test_nobody_conducts_so_the_next_one_reads_it(conducted: PlanFile) -> None:
    write(conducted, "[checkpoints]\nerror_lines = 7\n")
    assert told(conducted, "status", alive=False)["edited"] is None


def test_a_timetable_of_a_launch_that_has_begun_is_not_moved_by_anybody(conducted: PlanFile) -> None:
    write(conducted, '[timetable]\nwatch = "T 11:30"\n')
    said = str(told(conducted, "status")["edited"])
    assert "timetable.watch" in said and "stay as they were" in said and "Ctrl-C" not in said


def test_the_screen_of_the_conductor_says_each_edit_once(conducted: PlanFile) -> None:
    edits = Edits(conducted, launch_folder(conducted))
    assert edits.news() == ""
    write(conducted, "[checkpoints]\nerror_lines = 7\n")
    assert "error_lines" in edits.news()
    assert edits.news() == ""
    write(conducted, "[checkpoints]\nerror_lines = 7\n# a note\n")
    assert edits.news() == ""
    write(conducted, "[checkpoints\n")
    assert "cannot be used as it is now: " in edits.news()
    write(conducted, "")
    assert edits.news() == "launch.toml is again as the conductor read it."


def test_what_at_moved_is_no_edit(conducted: PlanFile) -> None:
    keep_read(move(conducted, "2026-03-02 11:00"), launch_folder(conducted))
    assert edited(load(conducted.path), launch_folder(conducted)) is None


def test_who_answers_a_question_is_told_that_the_edit_does_not_count_yet(
    conducted: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safepoint.launch.engine.send", lambda *_: None)
    write(conducted, "[checkpoints]\nerror_lines = 7\n")
    assert "(checkpoints.error_lines)" in str(told(conducted, "retry")["edited"])


def test_many_keys_are_not_all_named(conducted: PlanFile) -> None:
    write(conducted, "[checkpoints]\n" + "".join(f"{key}\n" for key in MANY))
    found = edited(load(conducted.path), launch_folder(conducted))
    assert found is not None and len(found.keys) == len(MANY)
    assert str(found).count("checkpoints.") == 5 and f"and {len(MANY) - 5} more" in str(found)
