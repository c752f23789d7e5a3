"""The conductor: the one process that carries out a launch. It holds the lock, writes the ledger, runs the engine."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

from safepoint import __version__
from safepoint.config import PlanFile
from safepoint.errors import Refused, SafepointError
from safepoint.launch import course, surroundings, undo, versions, whose
from safepoint.launch.background import Background
from safepoint.launch.begin import refuse_over, refuse_taken_back
from safepoint.launch.coming_back import BY, ComingBack
from safepoint.launch.guard import Guard
from safepoint.launch.heeding import heeded
from safepoint.launch.last_read import keep_read
from safepoint.launch.leaving import leave_nothing_running
from safepoint.launch.ledger import Entry, Ledger
from safepoint.launch.lock import ConductorLock
from safepoint.launch.patience import answers
from safepoint.launch.plan import Plan
from safepoint.launch.runs import begin_run, course_of, note_resumed, open_run, order_that_left
from safepoint.launch.stepping import Signals, Stepping, Tell
from safepoint.launch.storage import LEAST, make_private, probe_room, told
from safepoint.launch.verbs import verb
from safepoint.launch.wayback.pairs import refuse_shut_out
from safepoint.person import person
from safepoint.postgres.target import target

PROBE_SECONDS = 5.0
"""How often the conductor looks between steps whether its disk still has room."""


def make_order(word: str, **details: Any) -> dict[str, Any]:
    """An order as it is sent to a course."""
    return {"id": str(uuid.uuid4()), "order": word, "by": person(), "at": datetime.now(UTC).isoformat(), **details}


class Conductor:
    """Carries out one launch. A context: within it this process is the one conductor of the application.

    Args:
        command: what was typed, for whoever asks who conducts.
    """

    def __init__(
        self,
        plan_file: PlanFile,
        plan: Plan,
        *,
        tell: Tell,
        listeners: tuple[Callable[[Entry], None], ...],
        command: str = "safepoint launch",
    ) -> None:
        self.plan_file = plan_file
        self.plan = plan
        self.folder = plan_file.state / "launches" / plan.launch_id
        self._lock = ConductorLock(plan_file.conductor_lock, plan.launch_id, command, plan_file.launch.timezone)
        database = plan_file.database
        self._guard = Guard(lambda: target(database), database.maintenance, plan.launch_id, person())
        self._tell = tell
        self._listeners = listeners
        self._signals = Signals()
        self._signals.idle.set()
        self._broken: SafepointError | None = None
        self._next_probe = time.monotonic() + PROBE_SECONDS
        self._background = Background()

    def __enter__(self) -> Conductor:
        try:
            return self._enter()
        except OSError as error:
            raise told(error, subject=str(self.folder), begun=(self.folder / "ledger.jsonl").exists()) from error

    def _enter(self) -> Conductor:
        self._lock.__enter__()
        try:
            self._guard.take()
            self._open()
        except BaseException:
            self._guard.release()
            self._lock.__exit__(None, None, None)
            raise
        return self

    def _open(self) -> None:
        from safepoint.launch.engine import Engine  # costs a second; whoever only reads does without

        # The state folder itself stays passable: PostgreSQL's user starts servers in `scratch`.
        for folder in (self.folder.parent, self.folder):
            make_private(folder)
        probe_room(self.folder)
        keep_read(self.plan_file, self.folder)
        heeded(self.folder)  # what a former conductor was told is no word to this one
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self.ledger.listeners.extend(self._listeners)
        self._steps = Stepping(self.plan_file, self.plan, self.ledger, self._signals, self._background, self._tell)
        works: dict[str, Callable[..., Any]] = {
            "plan": self._plan,
            "remaining": self._remaining,
            "step": self._confirmed(self._steps.step),
            "ask": self._ask,
            "decided": self._decided,
            "order": self._order,
            "way back": self._confirmed(self._way_back),
            "may return": self._may_return,
            "way forth": self._confirmed(self._way_forth),
            "may leave": self._may_leave,
            "status after": self._status_after,
            "end": self._end,
        }
        works = {name: self._unbroken(work) for name, work in works.items()}
        courses = {"launch": course.launch, "rollback": self._rollback_course, "return": self._return_course}
        self._engine = Engine(self.folder, works, courses, broken=self._break)

    def __exit__(self, *_exc: object) -> None:
        self._background.close()
        self.ledger.close()
        self._guard.release()
        self._lock.__exit__(None, None, None)

    # -- what a person may ask for -------------------------------------------------------------------------------

    def launch(self, *, again: bool = False) -> str:
        """Begin the launch, or go on where a former conductor stopped; answers the status at the end.

        Args:
            again: one that was aborted begins anew.

        Raises:
            Refused: the launch is over, or was begun, or gone on with, from another state folder.
        """
        refuse_over(self.plan_file, self.ledger.entries, again=again)  # it may have ended while we came to the lock
        self._guard.refuse_remains(lambda: self.ledger.entries)
        self.ledger.append(
            "launch",
            "launch",
            {
                "plan": self.plan.as_json(),
                "by": person(),
                "machine": socket.gethostname(),
                "safepoint": __version__,
                "plan_file": str(self.plan_file.path),
                "format": versions.FORMAT,
                **whose.origin(self.plan_file),
            },
        )
        return self._conduct("launch")

    def rollback(self, order: Mapping[str, Any]) -> str:
        """Take the way back: of a launch that is under way (also of a dead conductor's), or of one that is done.

        Raises:
            Refused: nothing is to be taken back any more, or the launch was gone on with from another state folder.
        """
        refuse_taken_back(self.plan_file, self.ledger.entries, str(order["order"]))  # as above
        self._guard.refuse_remains(lambda: self.ledger.entries)
        return self._conduct("rollback", order=order)

    def leave(self, patience: float) -> None:
        """Stop conducting without an order: the running command is ended, and the step is run again on resuming.

        Waits until no step is under way, for `patience` seconds at most; the process must end after this.
        """
        self._signals.leaving.set()
        self._signals.interrupted.set()
        self._signals.idle.wait(patience)
        self._background.close()  # nothing that waited for a step outlives us

    @property
    def refusal(self) -> Refused | None:
        """Set once a conductor of another state folder is at work on the database: leave then."""
        return self._guard.refusal

    @property
    def broken(self) -> SafepointError | None:
        """Set once the ledger could not be written (a full disk): leave then, as after a kill."""
        return self._broken

    def _unbroken(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The work; where it raises, this conductor is at its end, and not the course.

        The engine would record the error as the course's end, for ever: no later conductor could go on or take the
        way back. So nothing is recorded, and the course is recovered as after a kill.
        """

        def carry_out(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except Exception as error:  # whatever it is, the engine must not have it
                self._break(error)

        return carry_out

    def _confirmed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The work, where nobody else has conducted the launch while this machine slept; else this process leaves."""

        def carry_out(*arguments: Any) -> Any:
            if not self._guard.confirm():
                threading.Event().wait()  # see `refusal`; nothing may be recorded
            return work(*arguments)

        return carry_out

    def _break(self, error: Exception) -> NoReturn:
        self._broken = told(error, subject=str(self.folder))
        while True:  # until this process ends
            threading.Event().wait()

    # -- the engine's work ---------------------------------------------------------------------------------------

    def _conduct(self, name: str, *, order: Mapping[str, Any] | None = None) -> str:
        run = open_run(self.ledger)
        versions.refuse_other(self.folder, self.ledger.entries)
        ground = self._steps.ground(self.plan.steps[0])
        surroundings.refuse_other(ground.fact(surroundings.FACT), self.plan.launch_id)
        if undo.where(undo.begun(self.ledger.entries, self.plan)) not in ("untouched", "stopped"):
            refuse_shut_out(self.plan_file, self.plan.launch_id, ground.fact("twin"))
        begun = run is not None and self._begun(run)
        if order is not None and run is not None:
            self._signals.interrupted.set()
            if begun:
                self._send_before_start(run, order)
        if run is not None:
            self._go_on_beside()
        with self._engine, ComingBack(self.ledger, partial(answers, ground), self._retry):
            if run is None:
                run = begin_run(self.ledger, name, order, hurry=self.plan.hurry)
                self._engine.start(self._workflow(run), name, run)
            else:
                note_resumed(self.ledger, run, self._lock.taken_over, hurry=self.plan.hurry)
                self._engine.start(self._workflow(run), self._way_of(run), run)
                if order is not None and not begun:
                    self._engine.send(self._workflow(run), order)
            status = self._until_ended(run)
            while (left_for := order_that_left(self.ledger, run)) is not None:
                run = begin_run(self.ledger, "rollback", left_for, hurry=self.plan.hurry)
                self._engine.start(self._workflow(run), "rollback", run)
                status = self._until_ended(run)
        return status

    def _way_of(self, run: int) -> str:
        """The course by which a run goes on where the engine's state is lost: the way that it was on last."""
        if self.ledger.find(f"wayforth:{run}") is not None:
            return "return"
        return "rollback" if self.ledger.find(f"wayback:{run}") is not None else course_of(self.ledger, run)

    def _until_ended(self, run: int) -> str:
        while (ended := self._engine.ended(self._workflow(run))) is None:
            try:
                if heeded(self.folder):
                    self._signals.interrupted.set()
                self._watch_for_room()
            except OSError as error:  # a share that is away: with its error we would leave a step that goes on
                self._broken = told(error, subject=str(self.folder))
            time.sleep(0.05)
        end = self.ledger.find(f"end:{run}")
        if end is None:
            raise SafepointError(
                f"The launch {self.plan.launch_id} ended without a status (engine: {ended}).",
                subject=self.plan.launch_id,
                remedy="Run the command again: it goes on where it was.",
            )
        return str(end.data["status"])

    def _begun(self, run: int) -> bool:
        """Whether the engine has the course of a run; False where a kill came before it knew of it.

        Raises:
            Refused: another version of Safepoint began it, whose turns this one does not know.
        """
        from safepoint.launch.engine import COURSE_VERSION, begun_by

        version = begun_by(self.folder, self._workflow(run))
        versions.refuse_course(self.ledger.entries, version, COURSE_VERSION)
        return version is not None

    def _send_before_start(self, run: int, order: Mapping[str, Any]) -> None:
        from safepoint.launch.engine import send

        send(self.folder, self._workflow(run), order)

    def _retry(self, asked: Mapping[str, Any]) -> None:
        """The answer to a question that a server's return has answered, given as a person would give it."""
        order = make_order("retry", by=BY, gate=asked["step"], attempt=asked["attempt"])
        self._engine.send(self._workflow(asked["run"]), order)

    def _workflow(self, run: int) -> str:
        return f"{self.plan.launch_id}:{run}"

    def _watch_for_room(self) -> None:
        """Between steps the engine writes alone, and where it cannot it may well say nothing, and wait for ever."""
        if time.monotonic() < self._next_probe or not self._signals.idle.is_set():
            return
        self._next_probe = time.monotonic() + PROBE_SECONDS
        probe_room(self.folder, LEAST)

    def _rollback_course(self, durable: course.Durable, run: int) -> str:
        if (known := self.ledger.find(f"wayback:{run}")) is not None:
            return course.back(durable, run, known.data["reason"], known.data["by"])
        entry = self.ledger.find(f"run:{run}")
        order = (entry.data["order"] if entry else None) or {"by": person(), "order": "rollback"}
        return course.back(durable, run, course.ordered(order), order["by"])

    def _return_course(self, durable: course.Durable, run: int) -> str:
        known = self.ledger.find(f"wayforth:{run}")
        return course.forth(durable, run, {"order": "return", "by": person() if known is None else known.data["by"]})

    def _plan(self, _run: int) -> list[dict[str, Any]]:
        return [step.as_json() for step in self.plan.steps]

    def _remaining(self, _run: int, step_id: str, _look: int) -> float:
        step = self.plan.step(step_id)
        if self.plan.hurry or step.at is None:
            return 0.0
        return max(0.0, (datetime.fromisoformat(step.at) - datetime.now(UTC)).total_seconds())

    def _way_back(self, run: int, reason: str, by: str | None) -> list[dict[str, Any]]:
        self._signals.interrupted.clear()
        known = self.ledger.find(f"wayback:{run}")
        if known is not None:
            return list(known.data["steps"])
        steps = [step.as_json() for step in undo.way_back(self.plan, undo.begun(self.ledger.entries, self.plan))]
        for step in steps:
            verb(str(step["verb"]))  # its modules are loaded now, and not while the site is closed
        self.ledger.append("wayback", f"wayback:{run}", {"run": run, "reason": reason, "by": by, "steps": steps})
        return steps

    def _may_return(self, run: int) -> str:
        """Why the way back cannot be turned round any more; empty where it can."""
        entry = self.ledger.find(f"wayback:{run}")
        steps = [] if entry is None else [str(step["id"]) for step in entry.data["steps"]]
        return undo.cannot_return(steps, self._begun_in(run)) or ""

    def _begun_in(self, run: int) -> list[str]:
        found = [e.step for e in self.ledger.entries if e.kind == "step.begun" and e.data["run"] == run]
        return [step for step in found if step is not None]

    def _way_forth(self, run: int, reason: str, by: str | None) -> list[dict[str, Any]]:
        self._signals.interrupted.clear()
        known = self.ledger.find(f"wayforth:{run}")
        if known is not None:
            return list(known.data["steps"])
        steps = [step.as_json() for step in undo.way_forth(self.plan, self._begun_in(run))]
        self.ledger.append("wayforth", f"wayforth:{run}", {"run": run, "reason": reason, "by": by, "steps": steps})
        return steps

    def _may_leave(self, run: int) -> str:
        """Why a return cannot be given up for another rollback yet; empty where it can."""
        done = [e.step for e in self.ledger.entries if e.kind == "step.done" and e.data["run"] == run]
        # Where the site was never closed, the migrated database has kept its place.
        kept = "back-stop-traffic" not in self._begun_in(run)
        return "" if kept else undo.cannot_leave([step for step in done if step is not None]) or ""

    def _status_after(self, _run: int) -> str:
        place = undo.where(undo.begun(self.ledger.entries, self.plan))
        return "rolled back" if place in ("migrated", "written", "open") else "aborted"

    def _ask(self, run: int, step_id: str, attempt: int, question: str, choices: list[str]) -> None:
        count = sum(entry.kind == "ask" for entry in self.ledger.entries)
        taken, turned = (self.ledger.find(f"{way}:{run}") is not None for way in ("wayback", "wayforth"))
        if taken and not turned and not self._may_return(run):  # trying again is not all that helps there
            choices = [*choices, "return"]
        data = {"run": run, "question": question, "choices": choices, "attempt": attempt}
        self.ledger.append("ask", f"{run}:{step_id}:{attempt}:ask:{count}", data, step=step_id)

    def _decided(self, run: int, step_id: str, attempt: int, by: str) -> None:
        self.ledger.append("decided", f"{run}:{step_id}:{attempt}:decided", {"run": run, "by": by}, step=step_id)

    def _order(self, run: int, step_id: str, order: Mapping[str, Any], fate: str) -> None:
        self.ledger.append("order", f"order:{order['id']}", {**order, "run": run, "fate": fate}, step=step_id)

    def _go_on_beside(self) -> None:
        """What the former conductor did beside the steps, and nobody does now."""
        from safepoint.launch.wayback.levelling import resume

        resume(self._steps.ground(self.plan.steps[0]))

    def _end(self, run: int, status: str, reason: str) -> str:
        if status == "failed":
            reason += leave_nothing_running(self._steps.ground, self.plan, self.ledger.entries)
        self.ledger.append("end", f"end:{run}", {"run": run, "status": status, "reason": reason})
        return status
