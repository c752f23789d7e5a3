"""A rollback that is ordered in the very moment in which the launch ends is taken, and not lost or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, launched, migrated
from typer.testing import CliRunner

from safepoint.cli import app, giving, orders
from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder
from safepoint.launch.lock import ConductorLock

Scene = tuple[PlanFile, Story, ConductorLock]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A launch whose conductor is alive, at its last step."""
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = migrated(launch_folder(plan) / "ledger.jsonl").begun("checkpoints")
    monkeypatch.setattr(giving, "_LEAVING", 0.3)
    monkeypatch.setattr(giving, "_HEEDING", 0.3)
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch") as lock:
        yield plan, story, lock


def order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, word: str, meanwhile: Callable[[dict[str, Any]], object]
) -> tuple[list[str], Any]:
    """The commands that were carried out by this process itself, and the answer."""
    plan, _, _ = scene
    conducted: list[str] = []
    monkeypatch.setattr("safepoint.launch.engine.send", lambda _folder, _run, given: meanwhile(given))
    monkeypatch.setattr(orders, "conduct", lambda *words, **_named: conducted.append(words[2]) or "rolled back")
    return conducted, CliRunner().invoke(app, [word, "--plan", str(plan.path), "--json"])


def test_where_the_run_ended_before_it_was_read_the_way_back_is_taken_here(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, story, lock = scene

    def ends(_: object) -> None:
        story.done("checkpoints", 0.1).end("launched")
        lock.__exit__(None, None, None)

    conducted, answer = order(scene, monkeypatch, "rollback", ends)
    assert conducted == ["rollback"] and '"rolled back"' in answer.output


def test_one_that_is_taken_up_is_left_to_the_conductor(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    story = scene[1]

    def takes(given: dict[str, Any]) -> None:
        story.ledger.append("order", f"order:{given['id']}", {**given, "run": 1, "fate": "taken"}, step="checkpoints")
        story.way_back("rollback ordered by grace").end("rolled back")

    conducted, answer = order(scene, monkeypatch, "rollback", takes)
    assert conducted == [] and '"conductor": "' in answer.output


def test_one_that_is_ignored_is_not_said_to_be_given(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two terminals gave contrary orders: one said `--discard`, the other, which wanted all kept, was told "given"."""
    story = scene[1]

    def ignores(given: dict[str, Any]) -> None:
        fate = "ignored: the way back is being taken already"
        story.way_back("rollback --discard ordered by grace@laptop")
        story.ledger.append("order", f"order:{given['id']}", {**given, "run": 1, "fate": fate}, step="back-ahead")

    conducted, answer = order(scene, monkeypatch, "rollback", ignores)
    assert conducted == [] and isinstance(answer.exception, Refused)
    assert "was not taken: the way back is being taken already" in answer.exception.message
    _, answer = order(scene, monkeypatch, "rollback", lambda _: None)
    assert "rollback --discard ordered by grace@laptop" in str(answer.exception)


def test_a_conductor_that_is_slow_to_take_it_is_trusted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    conducted, answer = order(scene, monkeypatch, "rollback", lambda _: None)
    assert conducted == [] and '"conductor": "' in answer.output


def test_an_abort_that_came_too_late_says_what_leads_back_now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    _, story, lock = scene

    def ends(_: object) -> None:
        story.done("checkpoints", 0.1).end("launched")
        lock.__exit__(None, None, None)

    _, answer = order(scene, monkeypatch, "abort", ends)
    assert isinstance(answer.exception, Refused) and "`safepoint rollback`" in str(answer.exception.remedy)


def test_a_command_that_stays_is_not_waited_for_for_ever(tmp_path: Path, scene: Scene, monkeypatch: Any) -> None:
    del tmp_path
    scene[1].done("checkpoints", 0.1).end("launched")
    conducted, answer = order(scene, monkeypatch, "rollback", lambda _: None)
    assert conducted == [] and "takes no order" in str(answer.exception)


def test_after_the_launch_nobody_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = launched(launch_folder(plan) / "ledger.jsonl")
    conducted, _ = order((plan, story, None), monkeypatch, "rollback", lambda _: None)  # type: ignore[arg-type]
    assert conducted == ["rollback"]


def test_whoever_interrupts_the_command_hears_that_the_order_was_given(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C takes back what was typed, as everywhere; here it was on its way already."""

    def pressed(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(giving.time, "sleep", pressed)
    conducted, answer = order(scene, monkeypatch, "rollback", lambda _: None)
    assert "rollback was given before this command was interrupted, and stands. `safepoint return" in answer.stderr
    assert conducted == []
