"""How many steps passed, as `status` counts them: only those are to come that will."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import PLAN, PLAN_FILE, WAY_BACK, launched, migrated, rolled_back

from safepoint.cli.status import standing_of
from safepoint.cli.timeline_state import State
from safepoint.config import PlanFile, load
from safepoint.launch.begin import launch_folder
from safepoint.launch.plan import Plan


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return load(tmp_path / "launch.toml")


def counted(plan: PlanFile, story: Any) -> tuple[int, int, str]:
    told = standing_of(plan, plan.path, None, story.now)
    return told["done"], told["steps"], told["of"]


def test_a_gate_that_a_person_said_go_at_has_passed(plan: PlanFile) -> None:
    story = migrated(launch_folder(plan) / "ledger.jsonl")
    before = counted(plan, story)[0]
    story.failed("gate-canary", 0.1, "inconclusive", "a person's").ask("gate-canary", "a person's", "go", "abort")
    assert counted(plan, story)[0] == before
    story.order("gate-canary", "go").decided("gate-canary")
    assert counted(plan, story)[0] == before + 1


def test_on_the_way_back_its_own_steps_count_and_no_step_that_never_comes(plan: PlanFile) -> None:
    story = migrated(launch_folder(plan) / "ledger.jsonl").begun("checkpoints")
    story.order("checkpoints", "rollback").way_back("rollback ordered by grace@laptop")
    assert counted(plan, story) == (0, len(WAY_BACK), " of the way back to 1.0")
    story.done("back-ahead", 0.1).done("back-stop-traffic", 0.1)
    assert counted(plan, story) == (2, len(WAY_BACK), " of the way back to 1.0")


def test_a_second_rollback_counts_nothing_of_the_first(plan: PlanFile) -> None:
    story = rolled_back(launch_folder(plan) / "ledger.jsonl").begin("rollback").way_back("once more")
    assert counted(plan, story)[:2] == (0, len(WAY_BACK))


def test_what_was_rolled_back_has_no_step_to_come(plan: PlanFile) -> None:
    story = migrated(launch_folder(plan) / "ledger.jsonl")
    before = counted(plan, story)[0]
    story.way_back("abort").done("back-swap", 0.1).end("rolled back", "abort ordered by grace@laptop")
    assert counted(plan, story) == (before + 1, before + 1, "")


def test_the_screen_shows_none_and_a_launch_that_begins_anew_has_them_all_again(plan: PlanFile) -> None:
    story = migrated(launch_folder(plan) / "ledger.jsonl")
    story.way_back("abort").done("back-swap", 0.1)
    state = State(Plan.from_json(PLAN))
    for entry in story.entries:
        state.take(entry, 0.0)
    assert not {"checkpoints", "green", "watch"} & set(state.lines)
    state.take(story.end("aborted").entries[-1], 0.0)
    state.take(story.begin().entries[-1], 0.0)
    assert {step["id"] for step in PLAN["steps"]} <= set(state.lines)
    assert not state.way_back, "the head would say that the way back is being taken"


def test_a_launch_that_is_done_counts_as_before(plan: PlanFile) -> None:
    story = launched(launch_folder(plan) / "ledger.jsonl")
    done, steps, of = counted(plan, story)
    assert (steps, of) == (len(PLAN["steps"]), "") and done <= steps
