"""How many steps passed, as `status` counts them."""

from __future__ import annotations

from pathlib import Path

from stories import PLAN_FILE, migrated

from safepoint.cli.status import standing_of
from safepoint.config import load
from safepoint.launch.begin import launch_folder


def test_a_gate_that_a_person_said_go_at_has_passed(tmp_path: Path) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = migrated(launch_folder(plan) / "ledger.jsonl")
    before = standing_of(plan, plan.path, None, story.now)["done"]
    story.failed("gate-canary", 0.1, "inconclusive", "a person's").ask("gate-canary", "a person's", "go", "abort")
    assert standing_of(plan, plan.path, None, story.now)["done"] == before
    story.order("gate-canary", "go").decided("gate-canary")
    assert standing_of(plan, plan.path, None, story.now)["done"] == before + 1
