"""Steps carried out one at a time: looked at, done, looked at again, and recorded. Each may be killed anywhere."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile
from safepoint.errors import Interrupted, LockNotAvailable, NeedsPerson, SafepointError, ServerAway
from safepoint.launch.background import Background
from safepoint.launch.coming_back import announced
from safepoint.launch.faults import boundary
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.patience import patiently
from safepoint.launch.plan import Plan
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.storage import NAMELESS, of_sqlite, storage_error
from safepoint.launch.verbs import verb
from safepoint.progress import Progress

Tell = Callable[[PlannedStep, Progress], None]


@dataclass(frozen=True)
class Signals:
    """Between who conducts and the step that runs: an order has come, this process is about to end, no step runs."""

    interrupted: threading.Event = field(default_factory=threading.Event)
    leaving: threading.Event = field(default_factory=threading.Event)
    idle: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Stepping:
    """Carries out the steps of a launch, and of its way back."""

    plan_file: PlanFile
    plan: Plan
    ledger: Ledger
    signals: Signals
    background: Background
    tell: Tell

    def _find_step(self, run: int, step_id: str) -> PlannedStep:
        for kind in ("wayback", "wayforth"):
            entry = self.ledger.find(f"{kind}:{run}")
            for data in [] if entry is None else entry.data["steps"]:
                if data["id"] == step_id:
                    return PlannedStep.from_json(data)
        return self.plan.step(step_id)

    def _refuse_left_way(self, run: int, step_id: str) -> None:
        """A run that has taken another way since goes on that one: the engine's state is older than the ledger.

        Raises:
            SafepointError: the step is not on the way that the ledger says.
        """
        ways = (self.ledger.find(f"{kind}:{run}") for kind in ("wayforth", "wayback"))
        way = next((entry for entry in ways if entry is not None), None)
        if way is None or step_id in [data["id"] for data in way.data["steps"]]:
            return
        state = self.ledger.path.with_name("engine.sqlite")
        raise SafepointError(
            f"The engine's state is older than the ledger: it would go on with {step_id}, and the launch has taken "
            f"another way since ({way.data['reason']}).",
            subject=str(state),
            remedy=f"Nothing was done. Move {state} away; then run the command again: it goes on by the ledger.",
        )

    def step(self, run: int, step_id: str, attempt: int) -> dict[str, Any]:
        """One step; the answer is what the course decides by. Runs again after a kill anywhere."""
        self.signals.idle.clear()
        try:
            return self._carried_out(run, step_id, attempt)
        finally:
            self.signals.idle.set()

    def _carried_out(self, run: int, step_id: str, attempt: int) -> dict[str, Any]:
        """Check, apply, verify, record."""
        key = f"{run}:{step_id}:{attempt}"
        if (done := self.ledger.find(f"{key}:done")) is not None:
            return {"verdict": done.data["evidence"]["verdict"], "summary": done.data["evidence"]["summary"]}
        self._refuse_left_way(run, step_id)
        step = self._find_step(run, step_id)
        if self.signals.interrupted.is_set():
            return self._interruption(step)
        common = {"run": run, "attempt": attempt}
        self.ledger.append(
            "step.begun", f"{key}:begun", {**common, "title": step.title, "phase": step.phase}, step=step_id
        )
        boundary(f"{step_id}:begun")
        clock = time.monotonic()
        try:
            evidence, already = patiently(self.ground(step), lambda: self._act(step))
        except Interrupted:
            return self._interruption(step)
        except Exception as error:  # whatever a step raises must reach the ledger and a person
            return self._failed(key, step, common, error, time.monotonic() - clock)
        seconds = round(time.monotonic() - clock, 3)
        boundary(f"{step_id}:applied")
        kind = "step.done" if evidence.verdict == "pass" else "step.failed"
        data = {**common, "seconds": seconds, "already": already, "evidence": evidence.as_json()}
        if evidence.verdict == "pass":
            self.ledger.append(kind, f"{key}:done", data, step=step_id)
        else:
            told = {**data, "verdict": evidence.verdict, "summary": evidence.summary}
            self.ledger.append(kind, f"{key}:failed", told, step=step_id)
        boundary(f"{step_id}:recorded")
        again = {"again": True} if evidence.facts.get("again") else {}
        return {"verdict": evidence.verdict, "summary": evidence.summary, **again}

    def ground(self, step: PlannedStep) -> Ground:
        """What a verb stands on when it carries out this step."""
        return Ground(
            self.plan_file,
            self.plan.launch_id,
            self.ledger,
            step,
            background=self.background,
            interrupted=self.signals.interrupted,
            tell=self.tell,
            hurry=self.plan.hurry,
        )

    def _act(self, step: PlannedStep) -> tuple[Evidence, bool]:
        ground = self.ground(step)
        action = verb(step.verb)
        evidence = action.check(ground)
        already = evidence is not None
        if evidence is None:
            evidence = action.apply(ground)
        if evidence.verdict == "pass":
            action.verify(ground, evidence)
        return evidence, already

    def _interruption(self, step: PlannedStep) -> dict[str, Any]:
        if self.signals.leaving.is_set():
            # This process is about to end, and nothing of the step may be recorded: it is run again on resuming.
            self.signals.idle.set()
            threading.Event().wait()
        return {"verdict": "interrupted", "summary": f"{step.title}: ended by an order"}

    def _failed(
        self, key: str, step: PlannedStep, common: Mapping[str, Any], error: Exception, seconds: float
    ) -> dict[str, Any]:
        shown = as_told(error, step.id, self.ledger.path.parent)
        if isinstance(shown, ServerAway) and step.phase == "rollback":
            by_itself = announced(self.ledger.entries, int(common["run"]), step.id, shown)
            shown.remedy = f"{shown.remedy} {by_itself}" if shown.remedy else by_itself
        data = {
            **common,
            "seconds": round(seconds, 3),
            "verdict": "fail",
            "summary": shown.message,
            "error": shown.as_json(),
        }
        self.ledger.append("step.failed", f"{key}:failed", data, step=step.id)
        # Waiting may help with a lock; whether to wait is for a person to say, not for the way back to take.
        summary = {"summary": shown.message, "found": shown.found, "remedy": shown.remedy}
        return {"verdict": "fail", **summary, "ask": isinstance(error, LockNotAvailable | NeedsPerson)}


def as_told(error: Exception, step_id: str, folder: Path) -> SafepointError:
    """An error of a step as a person can act on it: what the system refused (a full disk) is no fault of ours.

    Args:
        folder: the launch's own, which a step writes its files to.
    """
    if isinstance(error, SafepointError):
        return error
    if isinstance(error, sqlite3.Error):
        error = of_sqlite(str(error), "what is gathered there") or error
    if isinstance(error, OSError) and error.errno is not None:
        return storage_error(error, subject=str(folder) if error.errno in NAMELESS else step_id, begun=True)
    return SafepointError(
        f"An unexpected {type(error).__name__}: {error}",
        subject=step_id,
        remedy="This is a fault of Safepoint: please report it with the ledger. `retry` runs the step again.",
    )
