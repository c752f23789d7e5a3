"""The stage of the demo, small, for tests of whole launches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))

from stage import Stage  # the demo's own module


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages that are gone when the test ends."""
    with ExitStack() as stack:

        def make(name: str = "stage", **arguments: Any) -> Stage:
            arguments.setdefault("lines", 2_000)
            return stack.enter_context(Stage(tmp_path / name, **arguments))

        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A small site at 1.0, open, with the demo's plan file."""
    return make_stage()
