"""What a database, a log or a plan file holds is shown on the terminal, and does nothing there."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from safepoint.cli import progress, tables
from safepoint.cli.saying import echo, say, visible
from safepoint.cli.terminal import Terminal
from safepoint.errors import DatabaseError
from safepoint.progress import Progress

# Clears the screen, sets the title, goes up a line and writes over it; C1's CSI; a word that is read from the right.
EVIL = "t\x1b[2J\x1b]0;owned\x07\x1b[1A\rgo\x9b2J\u202eog"
MARKUP = "a[/b][link=https://elsewhere]"


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_texts_stay_and_control_characters_do_not() -> None:
    assert visible("one\ttwo\r\nthree – ünïcode 表 😀") == "one\ttwo\nthree – ünïcode 表 😀"
    assert visible(EVIL) == "t?[2J?]0;owned??[1A?go?2J?og"


def test_an_error_and_a_line_reach_the_terminal_without_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    say(DatabaseError(f"The table {EVIL} is locked.", found=EVIL, remedy=EVIL))
    echo(EVIL)
    out = capsys.readouterr()
    for text in (out.out, out.err):
        assert "owned" in text and not set(text) & set("\x1b\x07\r\x9b\u202e")


@pytest.mark.parametrize("width", ["40", "200"])
def test_tables_show_names_as_they_are_and_obey_none(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    screen: Any = Screen()
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(sys, "stdout", screen)
    tables.show_table(("Name", "Why"), [(EVIL, MARKUP)])
    assert "owned" in screen.getvalue() and "a[/b][link=" in screen.getvalue()
    assert not set(screen.getvalue()) & set("\x07\r\x9b\u202e") and "\x1b]" not in screen.getvalue()


def test_styles_are_still_written() -> None:
    screen: Any = Screen()
    Terminal(file=screen, force_terminal=True, color_system="standard").print(EVIL, style="bold red")
    assert screen.getvalue().startswith("\x1b[1;31m") and "\x1b[2J" not in screen.getvalue()


def test_a_bar_shows_a_name_that_looks_like_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen: Any = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.shown(quiet=False) as report:
        report(Progress(f"hash {MARKUP}", 1, 2, "rows"))
    assert "a[/b]" in screen.getvalue()
