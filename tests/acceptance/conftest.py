"""The stage of the demo, small, for tests of whole launches."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
from loaded_django import python

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))

from stage import Stage  # the demo's own module
from writers import Writers

from safepoint.postgres.binaries import installation


@dataclass
class Filled:
    """Databases of release 1.0 as they stood after their filling, by lines and PostgreSQL's major version."""

    folder: Path
    password: str = ""
    dumps: dict[tuple[int, int], Path] = field(default_factory=dict)


class QuickStage(Stage):
    """Spends no time twice: commands are forked and not begun anew, and each size of the books is made once."""

    def __init__(self, folder: Path, *, filled: Filled, **arguments: Any) -> None:
        super().__init__(folder, **arguments)
        self._filled = filled
        self._numbers = itertools.count(1)

    def safepoint(
        self, *words: str, capture: bool = False, env: Mapping[str, str] | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """A real process with a real end, see `forked`."""
        said = self.folder / f"said-{next(self._numbers)}"
        return forked.safepoint(
            [*words, "--plan", str(self.plan_path)],
            {**self.environment, **(env or {})},
            said.with_suffix(".out"),
            said.with_suffix(".err"),
            timeout=timeout,
        )

    def writers(self, count: int = 4, rate: float = 1.0) -> Writers:
        """Fewer entries than the demo's: what matters is that some are under way at every moment."""
        return super().writers(count, rate)

    def _fill(self) -> None:
        folder = Path(python()).parent  # what its plan file calls `python`
        self.environment["PATH"] = f"{folder}{os.pathsep}{self.environment['PATH']}"
        known, key = self._filled, (self._lines, self._major)
        # The password of those who post stands in the books, as a hash.
        known.password = self.environment["ACCOUNTING_DEMO_PASSWORD"] = (
            known.password or self.environment["ACCOUNTING_DEMO_PASSWORD"]
        )
        if key in known.dumps:
            self._tool("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", str(known.dumps[key]))
            return
        super()._fill()
        dump = known.folder / f"{self._lines}-{self._major}.sql"
        self._tool("pg_dump", "-f", str(dump))
        known.dumps[key] = dump

    def _tool(self, name: str, *words: str) -> None:
        target = self.server.target.on(self.plan.database.name)
        env = {**os.environ, **target.env(), **target.secrets()}
        program = installation(self._major).program(name)
        subprocess.run([program, *words], env=env, check=True, capture_output=True)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """What the stages of this process share."""
    return Filled(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="session")
def make_quick(filled: Filled) -> Callable[..., Stage]:
    """`with make_quick(folder, lines=500) as stage`: for what several tests stand on."""
    return partial(QuickStage, filled=filled)


@pytest.fixture
def make_stage(tmp_path: Path, make_quick: Callable[..., Stage]) -> Iterator[Callable[..., Stage]]:
    """Makes stages that are gone when the test ends."""
    with ExitStack() as stack:

        def make(name: str = "stage", **arguments: Any) -> Stage:
            arguments.setdefault("lines", 2_000)
            return stack.enter_context(make_quick(tmp_path / name, **arguments))

        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """A small site at 1.0, open, with the demo's plan file."""
    return make_stage()
