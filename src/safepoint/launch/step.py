"""What a step is: a verb that can look whether it is done, act, prove what it did, and take it back.

A plan names verbs; it holds no connection and no object of this module. The conductor finds the verb by its
name and gives it the `Ground` that it works on. Every verb may be killed at any instant and run again: `check`
looks at the world (never only at the ledger) before `apply` touches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from safepoint.config import PlanFile
    from safepoint.launch.ground import Ground

Phase = Literal["prepare", "freeze", "stop", "migrate", "green", "watch", "retire", "rollback"]
OnFailure = Literal["stop", "ask", "undo"]


@dataclass(frozen=True)
class PlannedStep:
    """One line of the plan. JSON-safe; `commands` shows what would run, without secrets.

    `on_failure` says what a failure leads to: `stop` (nothing of the live system is touched yet: the launch ends
    and can be retried), `ask` (a person decides: retry, or roll back), `undo` (the way back is taken at once).
    """

    id: str
    verb: str
    title: str
    phase: Phase
    at: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    on_failure: OnFailure = "stop"
    gate: bool = False

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            "id": self.id,
            "verb": self.verb,
            "title": self.title,
            "phase": self.phase,
            "at": self.at,
            "params": dict(self.params),
            "commands": list(self.commands),
            "on_failure": self.on_failure,
            "gate": self.gate,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedStep:
        """The inverse of `as_json`."""
        return cls(**{**data, "commands": tuple(data["commands"])})


@dataclass(frozen=True)
class Evidence:
    """What a check or an action proved. `summary` is one line for a person; `facts` are JSON-safe values.

    `verdict` is `pass`, `fail` or `inconclusive`; for a gate it becomes go, no-go, or a question to a person.
    """

    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    verdict: Literal["pass", "fail", "inconclusive"] = "pass"

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {"summary": self.summary, "verdict": self.verdict, **self.facts}


class Verb:
    """The base of all verbs: nothing to look at, nothing to verify, and nothing to take back."""

    name: ClassVar[str]

    def revert(self, step: PlannedStep) -> PlannedStep | None:
        """The step that takes this one back before the safe point; None where it leaves nothing to take back.

        After the migration began there is one way back for all steps together: see `launch.undo`.
        """
        return None

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What this would run, for `safepoint plan`. Pure."""
        return ()

    def check(self, ground: Ground) -> Evidence | None:
        """The evidence that this is already done in the world, or None."""
        return None

    def apply(self, ground: Ground) -> Evidence:
        """Do it. Must be safe to run again after being killed anywhere in between."""
        raise TypeError(f"the verb {self.name!r} does not say what it does")

    def verify(self, ground: Ground, evidence: Evidence) -> None:
        """Prove by another look that it is done.

        Raises:
            SafepointError: it is not.
        """
