"""What `status` says in the moments between a step's failure and what follows from it: a question, or the way back."""

from __future__ import annotations

from pathlib import Path

from stories import Story, migrated

from safepoint.launch.report import build
from safepoint.launch.report.model import present
from safepoint.launch.report.standing import standing


def following(story: Story) -> str:
    report = present(build(story.entries), story.entries)
    return str(standing({**report, "conducted": True})["next"])


def test_a_step_that_has_just_failed_is_not_followed_by_the_next_one(tmp_path: Path) -> None:
    """The guard waited for a server that had gone, with the site closed: `next` was the step behind it."""
    story = migrated(tmp_path / "ledger.jsonl")
    story.failed("checkpoints", 10.0, "fail", "Cannot connect", error="ServerAway")
    assert following(story).startswith("Run the checkpoints: failed. What the plan says for that")
    story.ask("checkpoints", "Cannot connect", "retry", "abort")
    assert following(story).startswith("Answer: Cannot connect.")
    story.way_back("Cannot connect")
    assert "failed" not in following(story)
