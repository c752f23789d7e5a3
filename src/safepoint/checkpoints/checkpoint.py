"""What a check found: one value with its baseline, its limit and a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from safepoint.errors import SafepointError

Verdict = Literal["pass", "fail", "inconclusive"]
Value = float | int | str | None


@dataclass(frozen=True)
class Checkpoint:
    """One monitored check. `inconclusive` means that a person has to look: no data is never a pass.

    Attributes:
        name: a stable word for machines, such as `size`.
        unit: of `baseline`, `value` and `limit`: "bytes", "connections", "lines", "s", "HTTP status".
        detail: what was seen, as one sentence for the report.
        remedy: what to do when it did not pass.
        seconds: how long the measuring took.
        files: what was written as evidence (a screenshot).
    """

    name: str
    title: str
    verdict: Verdict
    baseline: Value = None
    value: Value = None
    limit: Value = None
    unit: str = ""
    detail: str = ""
    seconds: float = 0.0
    remedy: str | None = None
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "seconds": round(self.seconds, 3), "files": list(self.files)}


def worst(checkpoints: Iterable[Checkpoint]) -> Verdict:
    """The verdict of several together: one that failed decides, then one that is open; none at all is open."""
    verdicts = {one.verdict for one in checkpoints}
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts or not verdicts else "pass"


def timed(name: str, title: str, look: Callable[[], Checkpoint]) -> Checkpoint:
    """Carry out a check and note how long it took. One that could not look is a failure, never silence."""
    began = time.monotonic()
    try:
        found = look()
    except SafepointError as error:
        found = Checkpoint(name, title, "fail", detail=f"could not look: {error.message}", remedy=error.remedy)
    return replace(found, seconds=time.monotonic() - began)
