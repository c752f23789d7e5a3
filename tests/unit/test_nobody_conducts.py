"""Behind a conductor that died nothing runs: `status` and `report` say where it ended, and what goes on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, launched, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.launch.begin import launch_folder
from safepoint.launch.lock import ConductorLock


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return launch_folder(load(tmp_path / "launch.toml")) / "ledger.jsonl"


def said(ledger: Path, word: str) -> dict[str, Any]:
    plan = ledger.parents[3] / "launch.toml"
    answer: dict[str, Any] = json.loads(CliRunner().invoke(app, [word, "--plan", str(plan), "--json"]).output)
    return dict(answer["standing"])


def test_what_ran_is_not_said_to_run_and_there_is_nothing_to_hold(ledger: Path) -> None:
    migrated(ledger).begun("checkpoints")
    for word in ("status", "report"):
        told = said(ledger, word)
        assert told["headline"] == "Nobody conducts the launch of accounting 2.0: its conductor has ended."
        assert told["tone"] == "bad"
        assert "goes on where it was: Run the checkpoints." in told["next"] and "Now:" not in told["next"]
        assert [one["command"].split()[1] for one in told["commands"]] == ["launch", "rollback"]


def test_between_two_steps_the_next_one_is_named(ledger: Path) -> None:
    migrated(ledger)
    assert "goes on where it was: Run the checkpoints." in said(ledger, "status")["next"]


def test_a_step_that_failed_in_the_conductors_last_instant_is_the_one_that_is_run_again(ledger: Path) -> None:
    """Its disk was full: what follows from the failure is recorded nowhere."""
    migrated(ledger).failed("checkpoints", 1.0, "fail", "No space left on device")
    assert "goes on where it was: Run the checkpoints." in said(ledger, "status")["next"]


def test_so_is_one_of_the_way_back_and_the_one_that_led_to_it_is_not(ledger: Path) -> None:
    story = migrated(ledger).failed("checkpoints", 1.0, "fail", "they fail").way_back("they fail")
    assert "goes on where it was: Carry what is there already." in said(ledger, "status")["next"]
    story.done("back-ahead", 1.0).failed("back-stop-traffic", 1.0, "fail", "No space left on device")
    assert "goes on where it was: Close the site: 503 with Retry-After." in said(ledger, "status")["next"]


def test_a_gates_title_ends_as_the_question_that_it_is(ledger: Path) -> None:
    migrated(ledger).done("checkpoints", 1).begun("gate-canary")
    assert said(ledger, "status")["next"].endswith(": Go for the canary?")


def test_a_question_is_not_said_to_be_taken_up_by_itself(ledger: Path) -> None:
    migrated(ledger).ask("gate-canary", "no login is configured", "go", "abort")
    told = said(ledger, "report")
    assert told["next"].startswith("`safepoint launch") and told["next"].endswith(": no login is configured.")
    assert [one["command"].split()[1] for one in told["commands"]] == ["launch", "go", "abort"]


def test_a_report_made_while_the_launch_is_conducted_says_so(ledger: Path) -> None:
    migrated(ledger).begun("checkpoints")
    plan = load(ledger.parents[3] / "launch.toml")
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"):
        assert said(ledger, "report")["headline"] == "The launch of accounting 2.0 is under way."


def test_a_return_leads_to_the_new_release(ledger: Path) -> None:
    story = returning(ledger)
    assert said(ledger, "status")["headline"].startswith("Nobody conducts accounting on its way back to 2.0")
    plan = load(ledger.parents[3] / "launch.toml")
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint return"):
        assert said(ledger, "status")["headline"] == "accounting is on its way back to 2.0."
    del story


def returning(ledger: Path) -> Story:
    story = launched(ledger).begin("rollback").way_back("rollback ordered by grace").begun("back-start-old")
    forth = [{"id": "forth-open", "verb": "open-traffic", "title": "Open the site on 2.0", "params": {}}]
    data = {"run": story.run, "steps": forth, "by": "grace", "reason": "return ordered by grace"}
    story.ledger.append("wayforth", f"wayforth:{story.run}", data)
    return story
