"""A rehearsal that said no-go of the rows: once they are mended, the launch rehearses them, and not those of before."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.errors import Refused
from safepoint.launch.verbs import rehearsing
from safepoint.launch.verbs.prepare import Snapshot
from safepoint.launch.verbs.rehearsing import Rehearse

SHELF = Path(__file__).parents[1] / "data" / "shop-format-2"


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="") + '\n[rehearsal]\nmax_age = "36500d"\n'
    return parse(text, tmp_path / "launch.toml")


def taken(plan: PlanFile, story: Story) -> None:
    """The launch's snapshot, whole, as a run of it left it."""
    ground = ground_at(plan, story, "snapshot")
    ground.record("snapshot:prelaunch", {"id": "shop-prelaunch"})
    shutil.copytree(SHELF, ground.snapshots / "shop-prelaunch")


def says(monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    monkeypatch.setattr(rehearsing, "rehearse", lambda *_words, **_named: SimpleNamespace(**found))


def test_after_a_no_go_the_next_run_takes_another_snapshot(
    plan: PlanFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    taken(plan, story)
    says(monkeypatch, verdict="no-go", reasons=("migrate failed at shop.0003: some row violates it",))
    with pytest.raises(Refused, match="no-go"):
        Rehearse().apply(ground_at(plan, story, "rehearse"))
    story.end("failed").begin()
    assert Snapshot().check(ground_at(plan, story, "snapshot")) is None
    other = ground_at(plan, story, "snapshot").renew("snapshot:prelaunch", {"id": "shop-prelaunch-2"})
    shutil.copytree(SHELF, ground_at(plan, story, "snapshot").snapshots / other["id"])
    assert Snapshot().check(ground_at(plan, story, "snapshot")) is not None


def test_what_failed_without_a_word_on_the_rows_is_rehearsed_again_on_the_same_snapshot(
    plan: PlanFile, tmp_path: Path
) -> None:
    story = Story(tmp_path / "ledger.jsonl").begin()
    taken(plan, story)
    story.end("failed").begin()
    assert Snapshot().check(ground_at(plan, story, "snapshot")) is not None
