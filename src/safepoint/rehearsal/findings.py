"""A finding of the lint, and what a plan file's waivers do to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from safepoint.config.rehearsal import Waiver
from safepoint.config.rules import RULES, Grade

_GRADES: tuple[Grade, ...] = ("breaks", "locks", "risk", "hint")


@dataclass(frozen=True)
class Finding:
    """One line that is worth reading. `line` counts those of the migration's SQL, where squawk found it.

    `waived` is the plan file's reason, and whose it is.
    """

    rule: str
    migration: str
    where: str
    why: str
    safer: str
    source: Literal["safepoint", "squawk"] = "safepoint"
    table: str | None = None
    line: int | None = None
    waived: str | None = None

    @property
    def grade(self) -> Grade:
        """How grave it is."""
        return RULES[self.rule].grade

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "grade": self.grade}


def waive(findings: Iterable[Finding], waivers: Sequence[Waiver]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings with why some are accepted and by whom, and in words the waivers that fit none of them."""
    found = []
    used: set[int] = set()
    for finding in findings:
        fits = [
            number
            for number, one in enumerate(waivers)
            if one.rule == finding.rule and one.migration in (None, finding.migration)
        ]
        used.update(fits)
        found.append(replace(finding, waived=str(waivers[fits[0]])) if fits else finding)
    idle = tuple(
        f"the waiver of {one.rule}{f' for {one.migration}' if one.migration else ''} fits no finding"
        for number, one in enumerate(waivers)
        if number not in used
    )
    return tuple(found), idle


def ordered(findings: Iterable[Finding], migrations: Sequence[str]) -> tuple[Finding, ...]:
    """The gravest first, then in the migrations' order."""
    places = {label: number for number, label in enumerate(migrations)}
    return tuple(sorted(findings, key=lambda one: (_GRADES.index(one.grade), places.get(one.migration, len(places)))))
