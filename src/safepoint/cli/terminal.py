"""The console for people: what stands in a database, a log or a plan file is shown there, and does nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from safepoint.cli.saying import let_go, visible


class Terminal(Console):
    """Rich's, without its markup (`[/x]` in a column's name would be an error) and without control characters in texts:
    those of the styles are its own.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(highlight=False, markup=False, **words)

    def on_broken_pipe(self) -> None:
        """Whoever read is gone (`safepoint doctor | head`): nothing more is written, and the command ends by its own
        code. Rich's own would end the process, and a launch with it.
        """
        self.quiet = True
        if self.file is sys.stdout:
            let_go(1)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich's."""
        for one in super().render(renderable, options):
            yield one if one.control else Segment(visible(one.text), one.style)
