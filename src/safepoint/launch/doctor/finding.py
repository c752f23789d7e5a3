"""What a preflight check found, and how it says so. A check that could not look is a failure, never silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from safepoint.config import PlanFile
from safepoint.errors import SafepointError

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What one check found. `check` is a stable word for machines; a failure stops a launch, a warning does not."""

    check: str
    verdict: Verdict
    message: str
    remedy: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """JSON-safe."""
        return asdict(self)


Look = Callable[[PlanFile, datetime], Iterable[Finding]]


def ok(check: str, message: str) -> Finding:
    """All is as it must be."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """The launch can go on, but a person should know."""
    return Finding(check, "warning", message, remedy)


def failure(check: str, message: str, remedy: str | None) -> Finding:
    """The launch must not begin."""
    return Finding(check, "failure", message, remedy)


def some(names: Iterable[str]) -> str:
    """The first of these names, and how many more there are."""
    words = list(names)
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")


def guarded(check: str, look: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    """The findings of one look; where it could not look, or looked at nothing, that is a failure."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except SafepointError as error:
        message = error.message if error.found is None else f"{error.message} Found: {error.found}"
        found.append(failure(check, message, error.remedy))
    except Exception as error:  # a fault of ours must not hide behind a green list
        said = f"{type(error).__name__}: {error}"
        found.append(failure(check, f"The check itself failed: {said}", "Report this as a fault of Safepoint."))
    return tuple(found) or (failure(check, "The check found nothing to look at.", "Report this as a fault."),)
