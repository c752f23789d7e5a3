"""Which order to take the way back holds, and when a launch may be retired: both are read off the ledger."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story

from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.launch.background import Background
from safepoint.launch.begin import move
from safepoint.launch.ground import Ground
from safepoint.launch.plan import make_plan
from safepoint.launch.retire import due_at
from safepoint.launch.runs import order_that_left


def plan_file(day: str = "2026-03-01") -> PlanFile:
    return parse(PLAN_FILE.format(date=day, zone="Europe/Berlin", more=""), Path("launch.toml"))


def ground(story: Story) -> Ground:
    plan = plan_file()
    return Ground(
        plan,
        plan.launch_id,
        story.ledger,
        make_plan(plan).steps[0],
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )


def ordered(story: Story, word: str, fate: str = "taken", **details: Any) -> None:
    data = {"order": word, "by": "ada@ops", "fate": fate, "run": story.run, **details}
    story.ledger.append("order", f"order:{len(story.entries)}", data)


def run(story: Story, order: dict[str, Any] | None) -> None:
    story.run += 1
    story.ledger.append("run", f"run:{story.run}", {"run": story.run, "course": "rollback", "order": order})


def test_an_order_to_discard_holds_for_its_own_run_alone(tmp_path: Path) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    assert not ground(story).discards
    ordered(story, "rollback", discard=True)
    assert ground(story).discards
    story.end("aborted").begin()  # begun anew
    ordered(story, "abort")
    assert not ground(story).discards


def test_an_order_that_was_ignored_is_not_obeyed(tmp_path: Path) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    run(story, {"order": "rollback", "discard": False, "by": "ada@ops"})
    ordered(story, "rollback", "ignored: the way back is being taken already", discard=True)
    assert not ground(story).discards
    ordered(story, "rollback", stop_first=True)
    ordered(story, "retry")
    assert ground(story).stops_first


def test_the_order_that_gave_a_return_up_is_the_next_runs(tmp_path: Path) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    ordered(story, "rollback")
    assert order_that_left(story.ledger, 1) is None
    story.ledger.append("wayforth", "wayforth:1", {"run": 1, "steps": []})
    ordered(story, "rollback", "ignored: not yet")
    assert order_that_left(story.ledger, 1) is None
    ordered(story, "rollback", discard=True)
    assert order_that_left(story.ledger, 1) == {"order": "rollback", "by": "ada@ops", "discard": True}


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        (datetime(2026, 4, 10, 7, 40, tzinfo=UTC), "2026-04-13"),  # on time: as the moved timetable says
        (datetime(2026, 4, 20, 7, 40, tzinfo=UTC), "2026-04-23"),  # ten days late, without waiting
    ],
)
def test_a_launch_is_kept_until_its_own_t_3_also_where_it_was_carried_out_on_another_day(
    tmp_path: Path, opened: datetime, expected: str
) -> None:
    moved = make_plan(move(plan_file(), "2026-04-10 09:00"))
    story = Story(tmp_path / "ledger.jsonl", moved.as_json()).begin()
    assert due_at(story.entries, plan_file()).date().isoformat() == "2026-04-13"
    story.now = opened - timedelta(seconds=1)
    story.done("green", 1.0)
    assert due_at(story.entries, plan_file()).date().isoformat() == expected
