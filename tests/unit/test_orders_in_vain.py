"""Orders that a way back would ignore are refused where they are given: sent, they would only end its running step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, launched
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.cli.status import standing_of
from safepoint.config.load import parse
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder
from safepoint.launch.coming_back import BY
from safepoint.launch.lock import ConductorLock

TEXT = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A rollback that has the twin in the live database's place, and a conductor at work."""
    (tmp_path / "launch.toml").write_text(TEXT)
    plan = parse(TEXT, tmp_path / "launch.toml")
    story = launched(launch_folder(plan) / "ledger.jsonl").begin("rollback").way_back("rollback ordered by grace")
    return story.done("back-stop-traffic", 0.1).done("back-swap", 0.1).begun("back-start-old")


def refused(tmp_path: Path, word: str) -> Refused:
    plan = parse(TEXT, tmp_path / "launch.toml")
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"):
        said: Any = CliRunner().invoke(app, [word, "--plan", str(tmp_path / "launch.toml")]).exception
    assert isinstance(said, Refused), said
    return said


def test_a_hold_is_refused_for_a_way_back_does_not_stop_between_its_steps(story: Story, tmp_path: Path) -> None:
    del story
    assert "is not held" in refused(tmp_path, "hold").message


def test_a_return_that_comes_too_late_or_twice_says_so(story: Story, tmp_path: Path) -> None:
    story.ledger.append("wayforth", f"wayforth:{story.run}", {"run": story.run, "steps": []})
    assert "turned round already" in refused(tmp_path, "return").message
    story.ask("forth-start-new", "2.0 does not answer", "retry", "rollback")
    assert "safepoint rollback" in str(refused(tmp_path, "return").remedy)


def test_a_retry_that_comes_after_the_conductor_s_own_says_who_was_quicker(story: Story, tmp_path: Path) -> None:
    story.failed("back-start-old", 60, "fail", "away", error="StillAway").ask("back-start-old", "away", "retry")
    story.order("back-start-old", "retry", by=BY).begun("back-start-old", 2)
    said = refused(tmp_path, "retry")
    assert BY in said.message and "back-start-old" in said.message and "safepoint status" in str(said.remedy)


def test_a_return_after_the_site_was_opened_says_why_it_cannot_be(story: Story, tmp_path: Path) -> None:
    story.begun("back-open")
    assert "the old release is open again" in refused(tmp_path, "return").message


def test_the_steps_of_a_rollback_that_was_turned_round_are_not_to_be_done(story: Story, tmp_path: Path) -> None:
    story.end("launched", "return ordered by grace")
    plan = parse(TEXT, tmp_path / "launch.toml")
    told = standing_of(plan, plan.path, None, story.now)
    assert told["steps"] == len(story.plan["steps"])
