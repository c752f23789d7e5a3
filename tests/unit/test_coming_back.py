"""Which questions the return of a server answers, and how long it has to be back."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import Story, migrated

from safepoint.errors import ServerAway, StillAway
from safepoint.launch.coming_back import BY, announced, awaited, needed


def asked(path: Path, error: str, step: str = "back-fence") -> Story:
    story = migrated(path / "ledger.jsonl").way_back("rollback ordered by grace@laptop")
    return story.failed(step, 60, "fail", "away", error=error).ask(step, "away", "retry", "return")


def given(story: Story, times: int) -> Story:
    for number in range(times):
        data = {"order": "retry", "by": BY, "fate": "taken", "run": story.run}
        story.ledger.append("order", f"order:own-{number}", data, step="back-fence")
    return story


@pytest.mark.parametrize("error", ["ServerAway", "StillAway"])
def test_a_question_of_the_way_back_about_a_server_that_is_away_is_answered_by_its_return(
    tmp_path: Path, error: str
) -> None:
    story = asked(tmp_path, error)
    question = awaited(story.entries)
    assert question is not None and (question["step"], question["attempt"]) == ("back-fence", 1)
    story.order("back-fence", "retry")
    assert awaited(story.entries) is None


@pytest.mark.parametrize("error", ["DatabaseError", "LockNotAvailable", "NeedsPerson", "ResourcesExhausted"])
def test_a_question_of_another_kind_is_left_to_a_person(tmp_path: Path, error: str) -> None:
    assert awaited(asked(tmp_path, error).entries) is None


def test_a_doubt_and_a_launch_that_is_under_way_are_left_to_a_person(tmp_path: Path) -> None:
    story = migrated(tmp_path / "doubt.jsonl").way_back("rollback ordered by grace@laptop")
    story.failed("back-swap", 1, "inconclusive", "it says 503").ask("back-swap", "it says 503", "go", "retry")
    assert awaited(story.entries) is None
    story = migrated(tmp_path / "launch.jsonl")
    story.failed("checkpoints", 1, "fail", "away", error="ServerAway").ask("checkpoints", "away", "retry", "abort")
    assert awaited(story.entries) is None


def test_a_step_that_brings_the_server_down_again_and_again_is_tried_ever_less_often(tmp_path: Path) -> None:
    """Others use that server, too."""
    story = asked(tmp_path, "StillAway")
    assert needed(story.entries, story.run, "back-fence", still=True) == 0
    assert needed(story.entries, story.run, "back-fence", still=False) == 60
    story.order("back-fence", "retry")  # a person's own do not count
    given(story, 2)
    assert needed(story.entries, story.run, "back-fence", still=True) == 180
    assert needed(story.entries, story.run, "back-swap", still=True) == 0
    assert "has answered for 3 min" in announced(story.entries, story.run, "back-fence", StillAway("away"))
    assert "has answered for 7 min" in announced(story.entries, story.run, "back-fence", ServerAway("away"))
    given(story, 40)
    assert needed(story.entries, story.run, "back-fence", still=True) == 3600
