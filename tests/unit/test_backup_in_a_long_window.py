"""The backup's age counts when the site is closed: neither a long migration nor a long watch makes it too old."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.config.load import parse
from safepoint.launch.verbs import opening


@pytest.mark.parametrize(("before", "verdict"), [(1.0, "pass"), (2.5, "fail")])
def test_a_backup_that_was_young_when_the_site_closed_is_young_enough_for_the_rest_of_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float, verdict: str
) -> None:
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""), tmp_path / "launch.toml")
    story = Story(tmp_path / "ledger.jsonl").begin().done("final-snapshot", 60.0)
    taken = story.now
    story.wait(before * 3600).done("stop-traffic", 0.2).wait(7 * 24 * 3600).done("migrate", 0.2)
    manifest = SimpleNamespace(taken_at=taken, total_bytes=2**30)
    monkeypatch.setattr(opening, "read_manifest", lambda _folder: manifest)
    monkeypatch.setattr(opening, "read_proof", lambda _folder: SimpleNamespace())
    ground = ground_at(plan, story, "watch")
    ground.record("snapshot:final", {"id": "final"})
    found = opening._backup(ground)
    assert found.verdict == verdict, found
    assert found.value == pytest.approx(timedelta(hours=before).total_seconds(), abs=1)
