"""The mark by which an order ends the step that runs; the order itself is in the engine, and outlives it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MARK: Final = "interrupt"


def interrupt(folder: Path) -> None:
    """Tell the conductor of the launch in this folder that an order is waiting which ends the running step."""
    (folder / _MARK).touch()


def heeded(folder: Path) -> bool:
    """Whether the mark was there; it is taken away."""
    mark = folder / _MARK
    if not mark.exists():
        return False
    mark.unlink(missing_ok=True)
    return True
