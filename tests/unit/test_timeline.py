"""The live timeline: what a person sees while a launch runs, at any size of terminal and off it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN, Story, launched, migrated, prepared, rolled_back

from safepoint.cli.terminal import Terminal
from safepoint.cli.timeline import Timeline
from safepoint.cli.timeline_lines import marks_for
from safepoint.cli.timeline_state import State
from safepoint.cli.timeline_view import frame
from safepoint.launch.plan import Plan
from safepoint.progress import Progress

THE_PLAN = Plan.from_json(PLAN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def state_of(story: Story) -> tuple[State, float]:
    """The state after all entries, and the time of the last one on a monotonic clock."""
    state = State(THE_PLAN)
    for entry in story.entries:
        state.take(entry, entry.when.timestamp())
    return state, story.now.timestamp()


def shown(state: State, now: float, width: int = 80, height: int = 60, encoding: str = "utf-8") -> list[str]:
    wall = datetime.fromtimestamp(now).astimezone()
    return frame(state, width, height, now, wall, marks_for(encoding)).plain.splitlines()


def plain_output(story: Story, **options: Any) -> list[str]:
    console = Terminal(file=io.StringIO(), width=80, force_terminal=options.pop("terminal", False))
    with Timeline(THE_PLAN, console=console, **options) as timeline:
        for entry in story.entries:
            timeline.on_entry(entry)
    assert timeline.faults == []
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


# -- on a terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 81, 120, 200])
@pytest.mark.parametrize("height", [8, 12, 24, 40, 80])
@pytest.mark.parametrize("tell", [prepared, migrated, launched, rolled_back])
def test_a_frame_always_fits(path: Path, width: int, height: int, tell: Any) -> None:
    state, now = state_of(tell(path))
    lines = shown(state, now, width, height)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_each_step_has_its_sign_its_time_and_what_it_proved(path: Path) -> None:
    state, now = state_of(launched(path))
    lines = shown(state, now, width=120)
    assert next(line for line in lines if "Migrate" in line and "6.3 s" in line).split() == [
        "✓", "Migrate", "6.3", "s", "11", "migrations", "applied",
    ]  # fmt: skip
    assert "launched" in lines[0]


def test_a_running_step_shows_how_far_it_is_how_fast_and_how_long_still(path: Path) -> None:
    state, now = state_of(prepared(path).begun("gate-stop").wait(4))
    state.progress("gate-stop", Progress("rows compared", 100_000, 400_000, "rows"), now - 2)
    state.progress("gate-stop", Progress("rows compared", 200_000, 400_000, "rows"), now)
    line = next(line for line in shown(state, now, width=120) if "rows compared" in line)
    assert "━━━━━━━━━━──────────" in line
    for expected in (" 50%", "4.0 s left", "200,000 of 400,000 rows", "50,000 rows/s"):
        assert expected in line
    assert any(line.startswith("  ● Go for the window?") and "4.0 s" in line for line in shown(state, now))


def test_work_without_a_total_shows_no_bar_and_guesses_nothing(path: Path) -> None:
    state, now = state_of(prepared(path).begun("gate-stop"))
    state.progress("gate-stop", Progress("dumped", 0, None, "bytes"), now - 1)
    state.progress("gate-stop", Progress("dumped", 5 * 1024 * 1024, None, "bytes"), now)
    line = next(line for line in shown(state, now) if "dumped" in line)
    assert line.split() == ["dumped", "5120", "kB", "5120", "kB/s"]


def test_the_next_piece_of_work_begins_its_rate_anew(path: Path) -> None:
    state, now = state_of(prepared(path).begun("gate-stop"))
    state.progress("gate-stop", Progress("dump", 90.0, 100.0, "tables"), now - 100)
    state.progress("gate-stop", Progress("fingerprint", 0.0, 100.0, "tables"), now - 2)
    state.progress("gate-stop", Progress("fingerprint", 50.0, 100.0, "tables"), now)
    assert any("2.0 s left" in line and "fingerprint" in line for line in shown(state, now))


def test_an_open_question_says_exactly_what_to_type_on_the_smallest_terminal(path: Path) -> None:
    story = migrated(path).failed("checkpoints", 1.0, "fail", "the login does not work", remedy="Start the cache.")
    state, now = state_of(story.ask("checkpoints", "the login does not work", "retry", "abort"))
    lines = shown(state, now, height=12)
    assert "waits for a person" in lines[0]
    assert any("the login does not work" in line for line in lines)
    assert any(line.split()[:2] == ["safepoint", "retry"] for line in lines)
    assert any(line.split()[:2] == ["safepoint", "abort"] for line in lines)


def test_a_short_terminal_folds_what_is_over_and_keeps_what_runs(path: Path) -> None:
    state, now = state_of(prepared(path).begun("gate-stop"))
    lines = shown(state, now, height=14)
    assert any(line.startswith("✓ Prepare") and "4 steps" in line for line in lines)
    assert any("● Go for the window?" in line for line in lines)
    assert any("Close the site" in line for line in lines)  # what comes next


def test_a_failure_is_shown_in_full_with_its_remedy(path: Path) -> None:
    summary = "the migration ledger.0007_amounts raised: value too long for type character varying(30) in column memo"
    story = prepared(path).failed("migrate", 2.0, "fail", summary, remedy="Shorten the memos and launch again.")
    state, now = state_of(story)
    words = " ".join(" ".join(shown(state, now)).split())
    assert summary in words
    assert "next: Shorten the memos and launch again." in words


def test_the_way_back_is_a_phase_of_its_own(path: Path) -> None:
    state, now = state_of(rolled_back(path))
    lines = shown(state, now)
    assert "Way back" in lines
    assert any(line.startswith("  ✓ Swap the twin in") for line in lines)
    assert any(line.startswith("  ↺ Watch") for line in lines)
    assert "rolled back" in lines[0]


def test_a_launch_that_waits_for_the_clock_says_until_when(path: Path) -> None:
    story = Story(path).begin()
    for step in ("survey", "snapshot", "proof", "store"):
        story.done(step, 1.0)
    state, now = state_of(story)
    assert any("waits for 08:00" in line and "Freeze the code" in line for line in shown(state, now))
    hurried = State(replace(THE_PLAN, hurry=True))
    for entry in story.entries:
        hurried.take(entry, entry.when.timestamp())
    assert hurried.awaited(story.now) is None


def test_an_ascii_terminal_gets_ascii(path: Path) -> None:
    state, now = state_of(prepared(path).begun("gate-stop"))
    state.progress("gate-stop", Progress("rows", 1, 2, "rows"), now)
    assert "\n".join(shown(state, now, encoding="ascii")).isascii()


def test_the_last_frame_leaves_the_whole_plan_on_the_screen(path: Path) -> None:
    console = Terminal(file=io.StringIO(), width=80, height=10, force_terminal=True)
    story = launched(path)
    with Timeline(THE_PLAN, console=console) as timeline:
        assert not timeline.plain
        for entry in story.entries:
            timeline.on_entry(entry)
    assert timeline.faults == []
    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue().rsplit("accounting-2.0-20260301", 1)[1]
    assert all(step.title[:30] in last for step in THE_PLAN.steps)


# -- off a terminal --------------------------------------------------------------------------------------------------


def test_off_a_terminal_each_event_is_a_line_with_time_of_day_and_elapsed(path: Path) -> None:
    lines = plain_output(migrated(path))
    assert all(re.match(r"\d\d:\d\d:\d\d \+\d+:\d\d:\d\d  \S ", line) for line in lines)
    done = next(line for line in lines if "11 migrations applied" in line)
    assert done == "09:00:07 +15:00:07  ✓ migrate            6.3 s  11 migrations applied"
    assert not any("\x1b" in line for line in lines)


def test_the_wait_for_the_next_phase_is_told_once(path: Path) -> None:
    waits = [line for line in plain_output(launched(path)) if "waits for" in line]
    assert [line.split("waits for ")[1] for line in waits] == [
        "2026-03-01 08:00",
        "2026-03-01 09:00",
        "2026-03-01 10:00",
    ]


def test_a_question_off_a_terminal_says_what_to_type(path: Path) -> None:
    lines = plain_output(migrated(path).ask("gate-canary", "in doubt: no login", "go", "abort"))
    assert lines[-3].endswith("? gate-canary     in doubt: no login")
    assert lines[-2].split() == ["safepoint", "go", "yes:", "go", "on", "with", "it"]
    assert lines[-1].split()[:2] == ["safepoint", "abort"]


def test_no_color_and_plain_and_quiet_are_obeyed_on_a_terminal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = prepared(path)
    assert not any("\x1b[" in line for line in plain_output(story, terminal=True, plain=True))
    assert plain_output(story, terminal=True, quiet=True) == []
    monkeypatch.setenv("NO_COLOR", "1")
    lines = plain_output(story, terminal=True)
    assert len(lines) > 5 and not any("\x1b[" in line for line in lines)


def test_progress_off_a_terminal_is_told_every_ten_seconds_at_most(path: Path) -> None:
    clock = [0.0]
    console = Terminal(file=io.StringIO(), width=80)
    story = prepared(path).begun("gate-stop")
    step = THE_PLAN.step("gate-stop")
    with Timeline(THE_PLAN, console=console, monotonic=lambda: clock[0]) as timeline:
        for entry in story.entries:
            timeline.on_entry(entry)
        for second in range(35):
            clock[0] = float(second)
            timeline.on_progress(step, Progress("rows compared", second, 35, "rows"))
    assert timeline.faults == []
    assert isinstance(console.file, io.StringIO)
    told = [line for line in console.file.getvalue().splitlines() if "rows compared" in line]
    assert len(told) == 3


def test_a_step_that_says_nothing_is_told_to_go_on_once_a_minute_off_a_terminal(path: Path) -> None:
    story = prepared(path).begun("gate-stop")
    console, clock = Terminal(file=io.StringIO(), width=80, force_terminal=False), [0.0]
    with Timeline(THE_PLAN, console=console, monotonic=lambda: clock[0]) as timeline:
        for entry in story.entries:
            timeline.on_entry(entry)
        for seconds in (59, 61, 100, 125):
            clock[0] = float(seconds)
            timeline.tell_of_silent_steps()
    assert isinstance(console.file, io.StringIO)
    told = [line for line in console.file.getvalue().splitlines() if "gate-stop" in line and "goes on" in line]
    assert [line.partition("goes on, ")[2] for line in told] == ["1 min 01 s so far", "2 min 05 s so far"]


def test_a_launch_that_goes_on_shows_what_a_former_conductor_did(path: Path) -> None:
    story = migrated(path)
    console = Terminal(file=io.StringIO(), width=120, height=60, force_terminal=True)
    timeline = Timeline(THE_PLAN, console=console, history=story.entries)
    assert timeline._state.lines["migrate"].summary == "11 migrations applied"


# -- it never harms the launch ---------------------------------------------------------------------------------------


class BrokenPipe(io.StringIO):
    """A terminal whose other end has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_closed_output_does_not_reach_the_conductor(path: Path, terminal: bool) -> None:
    story = rolled_back(path)
    out = BrokenPipe()
    console = Terminal(file=out, width=80, force_terminal=terminal)
    timeline = Timeline(THE_PLAN, console=console)
    with timeline:
        for entry in story.entries:
            timeline.on_entry(entry)
            timeline.on_progress(THE_PLAN.steps[0], Progress("rows", 1, 2, "rows"))
    assert console.quiet  # it was noticed, and nothing more is written


def test_an_entry_of_another_version_does_not_reach_the_conductor(path: Path) -> None:
    story = prepared(path)
    strange = replace(story.entries[-1], kind="step.done", step="of-the-future", data={})
    unknown = replace(THE_PLAN.steps[0], id="of-the-future-too")
    console = Terminal(file=io.StringIO(), width=80)
    with Timeline(THE_PLAN, console=console) as timeline:
        timeline.on_entry(replace(strange, kind="step.begun"))
        timeline.on_entry(strange)
        timeline.on_progress(unknown, Progress("rows", 1))
        for entry in story.entries:
            timeline.on_entry(entry)
    assert timeline.faults
    assert isinstance(console.file, io.StringIO)
    assert "412,377 rows" in console.file.getvalue()


def test_drawing_costs_little(path: Path) -> None:
    import time

    state, now = state_of(rolled_back(path))
    begun = time.process_time()
    for _ in range(50):
        shown(state, now, width=120)
    assert (time.process_time() - begun) / 50 < 0.02  # eight a second are less than a sixth of a core
