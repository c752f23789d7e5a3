"""`safepoint follow` ends where there is nothing more to follow, whatever it slept through."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN_FILE, Story

from safepoint.cli.follow import _Leave
from safepoint.config.load import parse
from safepoint.launch.begin import launch_folder


@pytest.mark.parametrize("status", ["launched", "rolled back", "failed", None])
def test_a_follower_that_slept_through_a_rollback_does_not_wait_for_the_twin(tmp_path: Path, status: str) -> None:
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""), tmp_path / "launch.toml")
    story = Story(launch_folder(plan) / "ledger.jsonl").begin().end("launched")
    assert not _Leave(plan, once=False, json_=False)()
    story.begin()
    if status is not None:
        story.end(status)
    assert _Leave(plan, once=False, json_=False)() == (status != "launched")
