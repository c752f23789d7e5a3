"""How long a way back kept people out, as the report counts it."""

from __future__ import annotations

from pathlib import Path

from stories import WAY_BACK, migrated, rolled_back

from safepoint.launch.report.model import build


def test_within_the_window_it_counts_from_the_windows_closing(tmp_path: Path) -> None:
    """It closes the site once more, for it cannot know."""
    story = migrated(tmp_path / "ledger.jsonl")
    (closed,) = [e.when for e in story.entries if e.kind == "step.begun" and e.step == "stop-traffic"]
    story.begun("checkpoints").wait(600).resumed().way_back("abort ordered by grace")
    for step, _, _, seconds, summary in WAY_BACK[1:]:
        story.done(step, seconds, summary)
    opened = story.entries[-1].when
    rollback = build(story.end("rolled back").entries)["rollback"]
    assert rollback["downtime_seconds"] == (opened - closed).total_seconds() > 600


def test_after_the_launch_it_counts_from_its_own(tmp_path: Path) -> None:
    story = rolled_back(tmp_path / "ledger.jsonl")
    (closed,) = [e.at for e in story.entries if e.kind == "step.begun" and e.step == "back-stop-traffic"]
    assert build(story.entries)["rollback"]["started"] == closed
