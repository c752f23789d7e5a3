"""What a step of a plan is, and what it leaves: plain data, JSON-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
