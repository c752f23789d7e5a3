"""What is shown on a terminal of 60 or 80 columns can be read: no column of one letter, no word broken at its end."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE

from safepoint.cli import tables
from safepoint.cli.plan import _show
from safepoint.config.load import parse
from safepoint.launch.plan import make_plan

HEADINGS = ("Snapshot", "Taken (UTC)", "Age", "Size", "Proven", "Where", "Launch")
ROW = (
    "accounting-2.0-20260301-prelaunch-20260228T170512Z",
    "2026-02-28 17:05",
    "16 h 40 min",
    "1234 MB",
    "yes",
    "here, offsite",
    "accounting-2.0-20260301",
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, width: int, show: Any) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show()
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()]


@pytest.mark.parametrize("width", [60, 80])
def test_a_list_of_snapshots_is_a_paragraph_each_where_no_table_fits(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown(monkeypatch, width, lambda: tables.show_table(HEADINGS, [ROW]))
    assert lines[0] == ROW[0] and len(lines) <= 5 and all(len(line) <= width for line in lines)
    assert "Taken (UTC): 2026-02-28 17:05; Age: 16 h 40 min" in " ".join(line.strip() for line in lines)


def test_where_there_is_room_it_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 160, lambda: tables.show_table(HEADINGS, [ROW]))
    assert any(all(value in line for value in ROW) for line in lines)


@pytest.mark.parametrize("width", [60, 80])
def test_the_timetable_keeps_its_steps_whatever_is_known_of_their_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    plan_file = parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=""), tmp_path / "launch.toml")
    made = make_plan(plan_file)
    seconds = {step.id: 3725.0 for step in made.steps}
    day, between, there = plan_file.launch.date, {"migrate": (61.2, 7304.0)}, {"twin"}
    lines = shown(monkeypatch, width, lambda: _show(made, day, seconds, between, there))
    assert all(len(line) <= width for line in lines), lines
    words = {word for line in lines for word in line.split()}
    wanted = {word for step in made.steps for word in step.title.split() if len(word) < 20}
    assert wanted <= words, wanted - words
    assert "takes 1 h 02 min (1 min 01 s to 2 h 01 min)" in " ".join(" ".join(line.split()) for line in lines)


def test_what_is_copied_is_not_broken_at_its_hyphens() -> None:
    said = "Type `safepoint rollback --stop-first --plan /opt/a-b/launch.toml` before 2026-03-01."
    lines = tables.wrapped(said, 24)
    assert {"--stop-first", "/opt/a-b/launch.toml`", "2026-03-01."} <= {word for line in lines for word in line.split()}
