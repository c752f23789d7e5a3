"""Tables for people, whose first columns (names that are copied into the next command) are never cut."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence

from safepoint.cli.saying import plan_typed
from safepoint.launch.typed import typed

WIDTH_ELSEWHERE = 240  # columns, where the output is no terminal: nobody looks at line ends there
_BORDERS = 3  # columns that a column's border and blanks take


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, whole: int = 1) -> None:
    """Print a table to standard output; where the terminal is too narrow for one, a paragraph for each row.

    Args:
        whole: how many columns, from the first, keep their whole width.
    """
    from rich.table import Table

    from safepoint.cli.terminal import Terminal

    lines = [tuple(row) for row in rows]
    console = Terminal(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)
    if not fits(headings, lines, whole, console.width):
        for text in (text for line in lines for text in paragraph(headings, line, whole, console.width)):
            console.print(text, markup=False, soft_wrap=True)
        return
    table = Table()
    for place, heading in enumerate(headings):
        if place < whole:
            width = max(len(heading), *(len(line[place]) for line in lines)) if lines else len(heading)
            table.add_column(heading, no_wrap=True, min_width=width)
        else:
            table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def fits(headings: Sequence[str], lines: Sequence[Sequence[str]], whole: int, width: int) -> bool:
    """Whether a table of this width breaks no word. Pure."""
    need = _BORDERS * len(headings) + 1
    for place, cells in enumerate(zip(headings, *lines, strict=True)):
        words = cells if place < whole else [word for cell in cells for word in cell.split()]
        need += max(map(len, words), default=0)
    return need <= width


def paragraph(headings: Sequence[str], line: Sequence[str], whole: int, width: int) -> list[str]:
    """A row whose names stand in a line of their own, and all else below them. Pure."""
    told = "; ".join(f"{name}: {value}" for name, value in zip(headings[whole:], line[whole:], strict=True) if value)
    return ["  ".join(line[:whole]), *wrapped(told, width - 4, indent="    ")]


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Lines of a text in which no word is broken, nor a date or an option at its hyphens: they are copied. Pure."""
    lines = textwrap.wrap(typed(text, plan_typed()), max(20, width), break_long_words=False, break_on_hyphens=False)
    return [f"{indent}{line}" for line in lines]
