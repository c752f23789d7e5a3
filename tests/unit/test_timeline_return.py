"""The timeline of a rollback that is turned round."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import pytest
from stories import PLAN, Story, launched

from safepoint.cli.terminal import Terminal
from safepoint.cli.timeline import Timeline
from safepoint.cli.timeline_lines import marks_for
from safepoint.cli.timeline_state import State
from safepoint.cli.timeline_view import frame
from safepoint.launch.plan import Plan


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """The old release does not start: a person turns round."""
    story = launched(tmp_path / "ledger.jsonl").begin("rollback").way_back("rollback ordered by grace")
    story.done("back-swap", 0.1).begun("back-start-old").order("back-start-old", "return")
    forth = [
        {"id": "forth-swap", "verb": "swap-forth", "title": "Give the migrated database its place again"},
        {"id": "forth-open", "verb": "open-traffic", "title": "Open the site on 2.0"},
    ]
    data = {"run": story.run, "steps": forth, "by": "grace", "reason": "return ordered by grace"}
    story.ledger.append("wayforth", f"wayforth:{story.run}", data)
    story.titles.update({step["id"]: (step["title"], "rollback") for step in forth})
    return story.begun("forth-swap")


def test_what_it_ended_does_not_run_and_what_it_gave_up_is_not_to_come(story: Story) -> None:
    state = State(Plan.from_json(PLAN))
    for entry in story.entries:
        state.take(entry, entry.when.timestamp())
    now = story.now.timestamp()
    lines = frame(state, 100, 60, now, datetime.fromtimestamp(now).astimezone(), marks_for("utf-8")).plain.splitlines()
    assert "the return" in lines[0]
    assert [line.split()[0] for line in lines if "Start 1.0" in line] == ["↺"]
    assert not any("Open the site on 1.0" in line for line in lines)
    assert [line.split()[0] for line in lines if "its place again" in line or "on 2.0" in line][-2:] == ["●", "·"]


def test_off_a_terminal_it_has_a_line(story: Story) -> None:
    console = Terminal(file=io.StringIO(), width=80)
    with Timeline(Plan.from_json(PLAN), console=console, plain=True) as timeline:
        for entry in story.entries:
            timeline.on_entry(entry)
    assert isinstance(console.file, io.StringIO)
    assert "turned round, 2 steps: return ordered by grace" in console.file.getvalue()
