"""A word for the window counts from when it was given: nobody may have been there to take it for hours."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from stories import Story, prepared

from safepoint.launch.verbs.gates import _said_go

ASKED = "this gate is a person's"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Asked, and the conductor has gone."""
    story = prepared(tmp_path / "ledger.jsonl").failed("gate-stop", 0.1, "inconclusive", ASKED)
    return story.ask("gate-stop", ASKED, "go", "abort").wait(60)


def test_one_that_was_taken_up_hours_later_is_hours_old(story: Story) -> None:
    given = story.now
    story.wait(6 * 3600).resumed()
    data = {"order": "go", "by": "grace@laptop", "fate": "taken", "at": given.isoformat()}
    story.ledger.append("order", "order:late", data, step="gate-stop")
    story.decided("gate-stop")
    assert _said_go(story.entries) == given


def test_one_of_a_clock_that_is_ahead_is_as_old_as_it_was_taken(story: Story) -> None:
    ahead = (story.now + timedelta(hours=3)).isoformat()
    data = {"order": "go", "by": "grace@laptop", "fate": "taken", "at": ahead}
    story.ledger.append("order", "order:ahead", data, step="gate-stop")
    assert _said_go(story.decided("gate-stop").entries) == story.now
