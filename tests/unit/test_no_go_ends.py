"""With which code a launch ends that a gate or a check said no to, before the site was closed."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from stories import PLAN_FILE, Story, prepared

from safepoint.cli.launch import end
from safepoint.config import PlanFile, load
from safepoint.launch.begin import launch_folder
from safepoint.launch.plan import make_plan

OLD = "The go for the window was given 3 h ago, and it would not be given now."


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return load(tmp_path / "launch.toml")


@pytest.fixture
def story(plan: PlanFile) -> Story:
    return prepared(launch_folder(plan) / "ledger.jsonl").done("gate-stop", 0.1, "go").wait(10_800)


def code(plan: PlanFile, status: str) -> int:
    with pytest.raises(typer.Exit) as ended:
        end(plan, make_plan(plan), status, json_=True)
    return int(ended.value.exit_code)


def taken_back(story: Story, reason: str, by: str | None) -> None:
    data = {"run": story.run, "reason": reason, "by": by, "steps": []}
    story.ledger.append("wayback", f"wayback:{story.run}", data)
    story.end("aborted", reason)


def test_a_go_that_would_not_be_given_again_is_refused_and_takes_nobody_back(story: Story, plan: PlanFile) -> None:
    story.failed("stop-traffic", 0.2, "fail", OLD, error="Refused")
    taken_back(story, OLD, None)
    assert code(plan, "aborted") == 3


def test_what_was_refused_with_the_site_closed_was_taken_back(story: Story, plan: PlanFile) -> None:
    story.done("stop-traffic", 0.2).failed("fence", 0.2, "fail", "a prepared transaction", error="Refused")
    taken_back(story, "a prepared transaction", None)
    assert code(plan, "aborted") == 5


def test_a_persons_abort_is_one_also_after_a_refusal(story: Story, plan: PlanFile) -> None:
    story.failed("stop-traffic", 0.2, "fail", OLD, error="Refused").ask("stop-traffic", OLD, "retry", "abort")
    taken_back(story, "abort ordered by grace", "grace@laptop")
    assert code(plan, "aborted") == 5


def test_a_refusal_of_an_earlier_run_is_not_this_ones(story: Story, plan: PlanFile) -> None:
    story.failed("gate-stop", 0.1, "fail", "no-go", attempt=2, error="Refused").end("failed", "no-go").begin()
    story.failed("survey", 0.1, "fail", "the server is away").end("failed", "the server is away")
    assert code(plan, "failed") == 1
