"""A step that waits for PostgreSQL says so, to whoever looks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, ground_at, migrated

from safepoint.cli.status import standing_of
from safepoint.cli.timeline_lines import event_line, marks_for
from safepoint.cli.timeline_state import State
from safepoint.config import load
from safepoint.errors import ServerAway
from safepoint.launch import patience
from safepoint.launch.lock import Holder
from safepoint.launch.plan import make_plan
from safepoint.launch.step import PlannedStep

WHO = Holder("ada", "ops", 4242, "2026-02-28T17:00:00+00:00", "accounting-2.0-20260301", "safepoint launch")


def test_what_a_rollback_waits_for_is_in_its_ledger_and_in_status_as_long_as_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    ledger = tmp_path / ".safepoint" / "launches" / plan.launch_id / "ledger.jsonl"
    story = migrated(ledger).way_back("rollback ordered by grace@laptop").begun("back-fence")
    ground = ground_at(plan, story, "fence")
    ground.step = PlannedStep("back-fence", "fence", "Stop writes at the database", "rollback")

    def status() -> Any:
        return standing_of(plan, Path("launch.toml"), WHO, story.now + timedelta(seconds=20))["running"][0]["waits"]

    seen: list[Any] = []
    monkeypatch.setattr(patience, "comes_back", lambda _ground: seen.append(status()) or False)

    def away() -> None:
        raise ServerAway("Cannot connect to postgres@db:5432/postgres: Connection refused")

    assert status() is None
    with pytest.raises(ServerAway):
        patience.patiently(ground, away)
    assert seen == [
        "PostgreSQL does not answer (Cannot connect to postgres@db:5432/postgres: Connection refused); it is waited "
        "for, 1 min at most"
    ]
    line = event_line(story.entries[-1], State(make_plan(plan)), marks_for("utf-8"))
    assert line is not None and line[1].startswith("back-fence ") and seen[0] in line[1]
    story.wait(61)
    assert status() is None
