"""A watch that a person is asked about can be gone on with: for what is left of it, by what was not told yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.checkpoints.logs import LogMark
from safepoint.config.load import parse
from safepoint.launch import error_logs
from safepoint.launch.ground import Ground
from safepoint.launch.plan import make_plan
from safepoint.launch.step import Evidence
from safepoint.launch.verbs import opening
from safepoint.launch.verbs.gates import GateGreen


def ground_of(story: Story, folder: Path) -> Ground:
    more = f'[application]\nerror_log = "{folder}/error.log"\n[watch]\nduration = "2h"'
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = parse(f"{text}\n{more}", folder / "launch.toml")
    return ground_at(plan, story, "watch")


def test_an_error_that_was_told_is_not_counted_again_and_a_later_one_is(tmp_path: Path) -> None:
    ground, log = ground_of(Story(tmp_path / "ledger.jsonl").begin(), tmp_path), tmp_path / "error.log"
    log.write_text("ERROR of before\n")
    error_logs.note(ground, "closed")
    reading = error_logs.Reading(ground)
    assert [one.verdict for one in reading.now()] == ["pass"]
    with log.open("a") as file:
        file.write("ERROR that nobody minds\n")
    assert [one.verdict for one in reading.now()] == ["fail"]
    later = error_logs.Reading(ground, [reading.marks()])
    assert [one.verdict for one in later.now()] == ["pass"]
    with log.open("a") as file:
        file.write("ERROR that came while a person was asked\n")
    (found,) = error_logs.Reading(ground, [reading.marks()]).now()
    assert (found.verdict, found.value) == ("fail", 1)


def test_a_watch_that_goes_on_lasts_for_what_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    ground = ground_of(story, tmp_path)
    told = {"log-mark": LogMark(f"{tmp_path}/error.log", 1, 90, matched=1, samples=("ERROR x",)).as_json()}
    looks: list[tuple[Any, float]] = []

    class Look:
        def __init__(self, _ground: Ground, _let_in: object, logs: error_logs.Reading) -> None:
            self.logs = logs

    def watched(_ground: Ground, end: opening.End, *, every: float, look: Look) -> list[Checkpoint]:
        looks.append((look.logs.marks(), round(end(), 1)))
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
    read_on = {"log-mark": LogMark(f"{tmp_path}/error.log", 1, 90).as_json()}
    assert looks == [({}, 7200.0), (read_on, 6600.0)]


def test_from_green_on_somebody_looks_until_the_long_watch_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = ground_of(Story(tmp_path / "ledger.jsonl").begin(), tmp_path)
    begins = datetime.now(UTC) + timedelta(minutes=20)
    looks: list[float] = []

    def watched(_ground: Ground, end: opening.End, *, every: float, look: object) -> list[Checkpoint]:
        looks.append(end())
        return [Checkpoint("errors", "Error log", "pass")]

    monkeypatch.setattr(opening, "Look", lambda *_: None)
    monkeypatch.setattr(opening, "_watched", watched)
    ground.step = replace(ground.step, params={"until": begins.isoformat()})
    opening.Watch().apply(ground)
    ground.hurry = True
    opening.Watch().apply(ground)
    assert 1190 < looks[0] <= 1200 and looks[1] <= 0.0


def test_an_error_in_the_canary_is_asked_about_and_neither_a_no_go_for_ever_nor_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    ground, log = ground_of(story, tmp_path), tmp_path / "error.log"
    log.write_text("ERROR of before\n")
    error_logs.note(ground, "closed")
    with log.open("a") as file:
        file.write("ERROR that nobody minds\n")
    canary = error_logs.Reading(ground)
    assert [one.verdict for one in canary.now()] == ["fail"]
    story.begun("canary").done("canary", 600.0, logs=canary.marks())
    ground.step = make_plan(ground.plan).step("gate-green")
    monkeypatch.setattr(opening.Look, "now", lambda look, *, with_login: look.logs.now())

    def begun(attempt: int) -> None:
        data = {"run": 1, "attempt": attempt, "title": "Go for everyone?", "phase": "green", "commands": []}
        story.ledger.append("step.begun", f"1:gate-green:{attempt}:begun", data, step="gate-green")

    def tried_again(attempt: int) -> Evidence:
        begun(attempt)
        found = GateGreen().apply(ground)
        story.ledger.append(
            "step.failed",
            f"1:gate-green:{attempt}:failed",
            {"run": 1, "attempt": attempt, "seconds": 0.1, "already": False, "evidence": found.as_json()},
            step="gate-green",
        )
        return found

    begun(1)
    for attempt in (2, 3):  # however often it is asked, nobody has called it harmless yet
        found = tried_again(attempt)
        assert found.verdict == "inconclusive" and "told before" in found.summary, found
    with log.open("a") as file:
        file.write("ERROR of the canary's clients\n")
    assert tried_again(4).verdict == "fail"
    assert tried_again(5).summary.endswith("error.log: 2")
