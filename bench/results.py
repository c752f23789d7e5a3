"""What a benchmark found: one line a number, written to `bench/results/` and shown as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Result:
    """One number with its limit, an upper one unless `at_least`. `detail`: how it was measured, what bounds it."""

    name: str
    value: float
    unit: str
    limit: float
    detail: str
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def write(file: str, results: Iterable[Result]) -> None:
    """Write `bench/results/FILE`."""
    RESULTS.mkdir(exist_ok=True)
    lines = [{**asdict(result), "holds": result.holds} for result in results]
    (RESULTS / file).write_text(json.dumps(lines, indent=2) + "\n")


def merge(file: str, results: Sequence[Result]) -> None:
    """Put these numbers into `bench/results/FILE`; those of other names that stand there stay."""
    path = RESULTS / file
    lines = {line["name"]: line for line in json.loads(path.read_text())} if path.exists() else {}
    lines |= {result.name: {**asdict(result), "holds": result.holds} for result in results}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps([lines[name] for name in sorted(lines)], indent=2) + "\n")


def show(results: Sequence[Result]) -> None:
    """Print a table."""
    table = Table("Name", "Value", "Limit", "Holds", "How")
    for one in results:
        table.add_row(one.name, f"{one.value:g} {one.unit}", f"{one.limit:g}", "yes" if one.holds else "NO", one.detail)
    Console().print(table)


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
