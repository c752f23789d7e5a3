"""`safepoint doctor` of a launch that has begun, and what else is asked of one that is no more to be begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN_FILE, Story, launched, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.cli.doctor import _begun, render
from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder
from safepoint.launch.doctor.doctor import timetable


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return load(tmp_path / "launch.toml")


def test_it_neither_offers_another_date_nor_says_that_it_can_begin(
    plan: PlanFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its date is a part of its id: with a later one no order would find it."""
    story = migrated(launch_folder(plan) / "ledger.jsonl")
    (found,) = timetable(plan, story.now)
    assert found.verdict == "ok" and "has begun" in found.message
    render((found,), _begun(plan))
    assert "can begin" not in capsys.readouterr().out


def test_one_that_was_aborted_can_begin(plan: PlanFile) -> None:
    launched(launch_folder(plan) / "ledger.jsonl")
    assert _begun(plan)
    Story(launch_folder(plan) / "ledger.jsonl").begin().end("aborted")
    assert not _begun(plan)


def test_retry_does_not_begin_anew_what_a_person_aborted(plan: PlanFile) -> None:
    """It closes the site again, and whoever typed it may not know of the abort."""
    migrated(launch_folder(plan) / "ledger.jsonl").end("aborted", "abort ordered by grace")
    said = CliRunner().invoke(app, ["retry", "--plan", str(plan.path)]).exception
    assert isinstance(said, Refused) and "it was aborted" in said.message
    assert "`safepoint launch --again` would begin it anew" in str(said.remedy)
