"""Progress as lines: how much, how fast, how long still; and not too many of them."""

from __future__ import annotations

from safepoint.cli.progress import Lines, line
from safepoint.progress import Progress

MB = 1024 * 1024


def test_a_line_says_how_much_how_fast_and_how_long_still() -> None:
    assert line(Progress("restore", 50 * MB, 200 * MB, "bytes"), 5.0, 50 * MB) == (
        "restore: 50 MB of 200 MB (25%), 10 MB/s, 15.0 s left"
    )
    assert line(Progress("verify files", 493, 300 * 1024, "bytes"), 0.0, 0) == "verify files: 493 bytes of 300 kB (0%)"
    assert line(Progress("dump", 3 * MB, None, "bytes"), 0.0, 0) == "dump: 3072 kB"
    assert (
        line(Progress("compare tables", 4, 4, "tables"), 2.0, 4) == "compare tables: 4 of 4 tables (100%), 2 tables/s"
    )


def test_what_has_no_pieces_is_begun_or_done() -> None:
    assert line(Progress("rehearsal: migrate", 0, 1), 0.0, 0) == "rehearsal: migrate: begun"
    assert line(Progress("rehearsal: migrate", 1, 1), 62.0, 1) == "rehearsal: migrate: done in 1 min 02 s"


def test_lines_come_when_something_begins_and_every_few_seconds() -> None:
    now, said = [0.0], []
    lines = Lines(said.append, lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        lines(Progress("restore", second * MB, 100 * MB, "bytes"))
        lines(Progress("fingerprint", second, 100, "tables"))
    assert len([text for text in said if text.startswith("restore")]) == 3
    assert len(said) == 6


def test_what_ends_is_told_once_though_it_was_told_just_before() -> None:
    said: list[str] = []
    lines = Lines(said.append, lambda: 1.0)
    for done in (1, 50, 100, 100, 100):
        lines(Progress("restore", done, 100, "tables"))
    assert said == ["restore: 1 of 100 tables (1%)", "restore: 100 of 100 tables (100%)"]
    lines(Progress("restore", 2, 100, "tables"))  # another one of the same name, right after
    lines(Progress("restore", 100, 100, "tables"))
    assert len(said) == 3
