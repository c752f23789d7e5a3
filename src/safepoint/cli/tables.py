"""Tables for people, whose first columns (names that are copied into the next command) are never cut."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

WIDTH_ELSEWHERE = 240  # columns, where the output is no terminal: nobody looks at line ends there


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, whole: int = 1) -> None:
    """Print a table to standard output.

    Args:
        whole: how many columns, from the first, keep their whole width.
    """
    from rich.console import Console
    from rich.table import Table

    lines = [tuple(row) for row in rows]
    table = Table()
    for place, heading in enumerate(headings):
        if place < whole:
            width = max(len(heading), *(len(line[place]) for line in lines)) if lines else len(heading)
            table.add_column(heading, no_wrap=True, min_width=width)
        else:
            table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE).print(table)
