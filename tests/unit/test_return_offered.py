"""Where a rollback can be turned round, whoever has to answer its question is told so, and not only to try again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def said(story: Story) -> dict[str, Any]:
    return standing(present(build(story.entries), story.entries))


def commands(story: Story) -> dict[str, str]:
    return {one["command"]: one["means"] for one in said(story)["commands"]}


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


def test_a_second_rollback_is_told_by_its_own_steps_and_not_by_those_that_were_turned_round(story: Story) -> None:
    forth = [{"id": "forth-open", "verb": "open-traffic", "title": "Open the site on 2.0", "params": {}}]
    data = {"run": story.run, "steps": forth, "by": "grace", "reason": "return ordered by grace"}
    story.ledger.append("wayforth", f"wayforth:{story.run}", data)
    story.titles["forth-open"] = ("Open the site on 2.0", "rollback")
    assert "accounting waits" not in said(story)["headline"]
    story.done("forth-open", 0.1).end("launched", "return ordered by grace")
    story.begin("rollback").way_back("rollback ordered by grace").begun("back-ahead")
    told = said(story)
    assert "Then: Close the site" in told["next"] and told["safe"].startswith("The safe point of")
    assert [one["command"] for one in told["commands"]] == ["safepoint rollback --stop-first", "safepoint return"]
    assert told["commands"][1]["means"] == "end the rollback: 2.0 was never closed"
    story.wait(1).ledger.append("step.done", "ahead", {"run": story.run, "attempt": 1, "seconds": 1}, step="back-ahead")
    story.begun("back-stop-traffic")
    assert list(commands(story)) == ["safepoint return"]


def test_a_question_on_the_way_back_says_where_that_leads_and_what_the_database_is_by_now(story: Story) -> None:
    story.ask("back-start-old", "1.0 does not answer", "retry", "return")
    told = said(story)
    assert told["headline"] == "accounting waits for a person on its way back to 1.0."
    assert told["safe"].startswith("The database is the twin of the safe point, with ")
    assert "the migrated one is kept whole" in told["safe"]


def test_a_swap_that_was_begun_is_not_said_to_be_done(story: Story) -> None:
    story.begin("rollback").way_back("rollback ordered by grace").begun("back-swap")
    assert "both whole" in said(story)["safe"]
    story.done("back-swap", 0.1, attempt=2)
    assert said(story)["safe"].startswith("The database is the twin of the safe point")
