"""How the reasons of a gate make its verdict. No data is never a go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from safepoint.launch.step import Evidence

Verdict = Literal["pass", "waived", "fail", "inconclusive"]
"""`waived`: what a person has accepted; it stops nothing, and is said wherever somebody decides."""
Reason = tuple[Verdict, str]


def judge(reasons: Sequence[Reason], *, by_person: bool) -> Evidence:
    """Combine the reasons of a gate: one no is a no, one doubt is a question, nothing looked at is a question."""
    verdicts = [verdict for verdict, _ in reasons]
    facts = {"reasons": [{"verdict": verdict, "why": why} for verdict, why in reasons]}
    if "fail" in verdicts:
        return Evidence("no-go: " + "; ".join(why for v, why in reasons if v == "fail"), facts, "fail")
    if "inconclusive" in verdicts or not reasons:
        doubts = "; ".join(why for v, why in reasons if v == "inconclusive") or "nothing was looked at"
        return Evidence(f"in doubt: {doubts}", facts, "inconclusive")
    if by_person:
        but = "".join(f"; {why}" for v, why in reasons if v == "waived")
        return Evidence(f"all evidence says go; this gate is a person's{but}", facts, "inconclusive")
    return Evidence("go: " + "; ".join(why for _, why in reasons), facts)
