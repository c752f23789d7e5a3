"""Where a rollback can be turned round, whoever has to answer its question is told so, and not only to try again."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN_FILE, Story, launched

from safepoint.config.load import parse
from safepoint.launch.conductor import Conductor
from safepoint.launch.plan import make_plan
from safepoint.launch.report.model import build, present
from safepoint.launch.report.standing import standing

STEPS = ("back-ahead", "back-stop-traffic", "back-stop-new", "back-fence", "back-list", "back-swap", "back-start-old")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A rollback whose old release does not start."""
    story = launched(tmp_path / "ledger.jsonl").begin("rollback").way_back("rollback ordered by grace")
    for step in STEPS[:-1]:
        story.done(step, 0.1)
    return story.failed(STEPS[-1], 5, "fail", "1.0 does not answer")


def asked(story: Story, tmp_path: Path) -> list[str]:
    plan_file = parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=""), tmp_path / "launch.toml")
    conductor = Conductor(plan_file, make_plan(plan_file), tell=lambda _: None, listeners=())
    conductor.ledger = story.ledger
    conductor._ask(story.run, "back-start-old", 1, "1.0 does not answer.", ["retry"])
    return list(story.entries[-1].data["choices"])


def commands(story: Story) -> dict[str, str]:
    told = standing(present(build(story.entries), story.entries))
    return {one["command"]: one["means"] for one in told["commands"]}


def test_a_failure_on_the_way_back_offers_to_return_where_that_can_be(story: Story, tmp_path: Path) -> None:
    assert asked(story, tmp_path) == ["retry", "return"]
    offered = commands(story)
    assert list(offered) == ["safepoint retry", "safepoint return"]
    assert offered["safepoint return"].startswith("turn round: 2.0 and its database again")


def test_none_is_offered_once_people_are_let_in_or_the_way_is_turned_round(story: Story, tmp_path: Path) -> None:
    story.begun(STEPS[-1], 2)
    assert list(commands(story)) == ["safepoint return"]
    story.ledger.append("wayforth", f"wayforth:{story.run}", {"run": story.run, "steps": [], "by": "", "reason": ""})
    assert asked(story, tmp_path) == ["retry"]


def test_one_that_has_opened_the_site_says_nothing_of_it(story: Story, tmp_path: Path) -> None:
    story.begun("back-open")
    assert asked(story, tmp_path) == ["retry"]
    story.begun("back-open", 2)
    assert commands(story) == {}
