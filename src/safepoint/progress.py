"""How long work tells how far it is, and learns that it must stop. Passed down as two plain callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is: `done` of `total` in `unit` ("bytes", "tables", "rows", "s"); None is unknown.

    What cannot be told piece by piece has no unit and a total of 1: it is begun (0) or done (1).
    """

    what: str
    done: float
    total: float | None = None
    unit: str = ""

    @property
    def whole(self) -> bool:
        """Whether it can only be told as begun or done, and neither by a share nor by the time that is left."""
        return self.total == 1 and not self.unit


Report: TypeAlias = Callable[[Progress], None]
Cancelled: TypeAlias = Callable[[], bool]


def silent(_progress: Progress) -> None:
    """Report to nobody."""


def never() -> bool:
    """Never cancelled."""
    return False
