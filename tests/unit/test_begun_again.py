"""What is over is begun again by nobody who only typed the last command once more, nor by a service manager."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN, PLAN_FILE, Story, launched, migrated, prepared

from safepoint.cli.orders import retry
from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder, prepare_launch, refuse_over, refuse_taken_back
from safepoint.launch.report import build
from safepoint.launch.report.model import present
from safepoint.launch.report.standing import standing
from safepoint.launch.runs import begin_run


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return load(tmp_path / "launch.toml")


@pytest.fixture
def ledger(plan: PlanFile) -> Path:
    return launch_folder(plan) / "ledger.jsonl"


def test_an_aborted_launch_begins_anew_only_where_that_is_said(plan: PlanFile, ledger: Path) -> None:
    story = prepared(ledger).way_back("abort ordered by grace").end("aborted", "abort ordered by grace")
    for hurry in (False, True):
        with pytest.raises(Refused, match="was aborted: abort ordered by grace") as refused:
            prepare_launch(plan.path, hurry=hurry, at=None)
        assert "`safepoint launch --again`" in refused.value.remedy
    found, the_plan = prepare_launch(plan.path, hurry=False, at=None, again=True)
    assert (found.launch_id, the_plan.launch_id) == (plan.launch_id, plan.launch_id)
    with pytest.raises(Refused) as over:
        retry(plan.path)
    assert "`safepoint launch --again" in over.value.remedy
    told = standing(present(build(story.entries), story.entries))
    assert "safepoint launch --again" in told["commands"][0]["command"]
    assert "safepoint launch --again" in told["next"]
    story.begin()  # it was, and that conductor is dead: this goes on
    prepare_launch(plan.path, hurry=False, at=None)


def test_what_begins_anew_waits_for_its_moments_unless_that_is_said_again(plan: PlanFile, ledger: Path) -> None:
    """The first try was carried out at once, as a test: the second one closed the site at once, too, days too early."""
    story = Story(ledger, {**PLAN, "hurry": True}).begin()
    assert prepare_launch(plan.path, hurry=False, at=None)[1].hurry  # gone on with as it was begun
    story.way_back("abort ordered by grace").end("aborted", "abort ordered by grace")
    for hurry in (False, True):
        assert prepare_launch(plan.path, hurry=hurry, at=None, again=True)[1].hurry == hurry
    begin_run(story.ledger, "launch", None, hurry=False)
    assert not prepare_launch(plan.path, hurry=False, at=None)[1].hurry
    assert not build(story.entries)["launch"]["hurry"]
    story.run = 2
    story.end("aborted", "abort ordered by grace")
    begin_run(story.ledger, "launch", None, hurry=True)
    assert prepare_launch(plan.path, hurry=False, at=None)[1].hurry
    assert build(story.entries)["launch"]["hurry"]


def test_one_that_failed_goes_on_by_the_same_command(plan: PlanFile, ledger: Path) -> None:
    prepared(ledger).end("failed", "the server is away")
    prepare_launch(plan.path, hurry=False, at=None)


@pytest.mark.parametrize("status", ["launched", "rolled back"])
def test_what_is_launched_or_rolled_back_is_begun_by_no_word(plan: PlanFile, ledger: Path, status: str) -> None:
    story = launched(ledger) if status == "launched" else migrated(ledger).way_back("x").end("rolled back", "x")
    with pytest.raises(Refused, match="is over"):
        refuse_over(plan, story.entries, again=True)


def taken(story: Story, plan: PlanFile, word: str) -> str:
    """Why an order to take it back is refused; empty where it is not."""
    try:
        refuse_taken_back(plan, story.entries, word)
    except Refused as refused:
        return str(refused)
    return ""


def test_nothing_is_taken_back_twice(plan: PlanFile, ledger: Path) -> None:
    story = launched(ledger)
    assert taken(story, plan, "rollback") == ""
    assert "is done" in taken(story, plan, "abort")
    assert "No rollback is under way" in taken(story, plan, "return")
    story.begin().way_back("rollback ordered by grace")
    assert [taken(story, plan, word) for word in ("rollback", "abort", "return")] == ["", "", ""]
    story.end("rolled back", "rollback ordered by grace")
    assert ["over already" in taken(story, plan, word) for word in ("rollback", "abort")] == [True, True]
    assert "No rollback is under way" in taken(story, plan, "return")


@pytest.mark.parametrize(("by", "told"), [("grace@laptop", "Mend what it was ordered for"), (None, "Find out why")])
def test_who_ordered_it_is_not_told_to_find_out_why(ledger: Path, by: str | None, told: str) -> None:
    story = migrated(ledger)
    data = {"run": 1, "reason": "rollback ordered by grace@laptop" if by else "it raised", "by": by, "steps": []}
    story.ledger.append("wayback", "wayback:1", data)
    story.end("rolled back", str(data["reason"]))
    assert f"{told} ({data['reason']}), then" in standing(present(build(story.entries), story.entries))["next"]
