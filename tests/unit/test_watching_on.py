"""A watch that a person is asked about can be gone on with: for what is left of it, by what was not told yet."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.config.load import parse
from safepoint.launch import error_logs
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.plan import make_plan
from safepoint.launch.verbs import opening


def ground_of(story: Story, folder: Path) -> Ground:
    more = f'[application]\nerror_log = "{folder}/error.log"\n[watch]\nduration = "2h"'
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = parse(f"{text}\n{more}", folder / "launch.toml")
    return Ground(
        plan,
        plan.launch_id,
        story.ledger,
        make_plan(plan).step("watch"),
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )


def test_an_error_that_was_told_is_not_counted_again_and_a_later_one_is(tmp_path: Path) -> None:
    ground, log = ground_of(Story(tmp_path / "ledger.jsonl").begin(), tmp_path), tmp_path / "error.log"
    log.write_text("ERROR of before\n")
    error_logs.note(ground, "closed")
    reading = error_logs.Reading(ground)
    assert [one.verdict for one in reading.now()] == ["pass"]
    with log.open("a") as file:
        file.write("ERROR that nobody minds\n")
    assert [one.verdict for one in reading.now()] == ["fail"]
    later = error_logs.Reading(ground, reading.marks())
    assert [one.verdict for one in later.now()] == ["pass"]
    with log.open("a") as file:
        file.write("ERROR that came while a person was asked\n")
    (found,) = error_logs.Reading(ground, reading.marks()).now()
    assert (found.verdict, found.value) == ("fail", 1)


def test_a_watch_that_goes_on_lasts_for_what_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    ground, told = ground_of(story, tmp_path), {"log-mark": {"path": "x"}}
    looks: list[tuple[Any, float]] = []

    class Look:
        def __init__(self, _ground: Ground, _let_in: object, marks: object) -> None:
            self.marks = marks

    def watched(_ground: Ground, seconds: float, *, every: float, look: Look) -> list[Checkpoint]:
        looks.append((look.marks, seconds))
        return [Checkpoint("errors", "Error log", "pass")]

    monkeypatch.setattr(opening, "Look", Look)
    monkeypatch.setattr(opening, "_watched", watched)
    opening.Watch().apply(ground)
    story.begun("watch").wait(600)
    evidence = {"verdict": "inconclusive", "summary": "1 error", "logs": told, "again": True}
    data = {"run": 1, "attempt": 1, "seconds": 600.0, "already": False, "evidence": evidence}
    story.ledger.append("step.failed", "1:watch:1:failed", data, step="watch")
    story.ask("watch", "1 error", "go", "retry", "abort").wait(3600)
    opening.Watch().apply(ground)
    assert looks == [(None, 7200.0), (told, 6600.0)]


def test_from_green_on_somebody_looks_until_the_long_watch_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = ground_of(Story(tmp_path / "ledger.jsonl").begin(), tmp_path)
    begins = datetime.now(UTC) + timedelta(minutes=20)
    looks: list[float] = []

    def watched(_ground: Ground, seconds: float, *, every: float, look: object) -> list[Checkpoint]:
        looks.append(seconds)
        return [Checkpoint("errors", "Error log", "pass")]

    monkeypatch.setattr(opening, "Look", lambda *_: None)
    monkeypatch.setattr(opening, "_watched", watched)
    ground.step = replace(ground.step, params={"until": begins.isoformat()})
    opening.Watch().apply(ground)
    ground.hurry = True
    opening.Watch().apply(ground)
    assert 1190 < looks[0] <= 1200 and looks[1:] == [0.0]
