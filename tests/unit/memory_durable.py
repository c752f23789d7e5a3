"""A `Durable` in memory, with a world of steps and a person who gives orders: a course can be killed anywhere in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Killed(Exception):  # as `kill -9`: it is no error of the course
    """The process died."""


class Stuck(Exception):  # what a test reports, not an error of the course
    """The course waits for an order, and nobody will ever give one."""


def step(step_id: str, on_failure: str = "ask", *, gate: bool = False) -> dict[str, Any]:
    """A step of a plan, as much of it as a course looks at."""
    return {"id": step_id, "on_failure": on_failure, "gate": gate}


WAY_BACK = (step("back-stop"), step("back-swap", "stop"), step("back-open", "undo"))
"""The kinds of `on_failure` that a way back may carry: none of them may be walked past."""


WAY_FORTH = (step("forth-swap"), step("forth-open"))


def order(word: str, by: str = "grace@laptop", **details: Any) -> dict[str, Any]:
    """An order of a person."""
    return {"order": word, "by": by, **details}


@dataclass
class World:
    """The plan, what each attempt of a step comes to, and the orders, which come when so many works were done.

    `verdicts[step]` are the outcomes of its attempts, one after another; `pass` when there are none (left).
    `orders` are (work, argument, order): the order is sent right before that work is carried out.
    """

    plan: Sequence[Mapping[str, Any]]
    verdicts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    orders: Sequence[tuple[str, str, Mapping[str, Any]]] = ()
    way_back: Sequence[Mapping[str, Any]] = WAY_BACK
    again: Sequence[str] = ()
    remaining: Mapping[str, float] = field(default_factory=dict)
    done: list[tuple[str, ...]] = field(default_factory=list)
    queue: list[Mapping[str, Any]] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)

    def send_due(self, work: str, arguments: Sequence[Any]) -> None:
        about = str(arguments[1]) if len(arguments) > 1 else ""
        for number, (when, whom, given) in enumerate(self.orders):
            if number not in self.sent and (when, whom) == (work, about):
                self.sent.add(number)
                self.queue.append(given)

    def carry_out(self, work: str, arguments: Sequence[Any]) -> Any:
        self.send_due(work, arguments)
        about = str(arguments[1]) if len(arguments) > 1 else ""
        if work == "plan":
            return [dict(step) for step in self.plan]
        if work == "way back":
            self.done.append(("way back", str(arguments[1])))
            return [dict(step) for step in self.way_back]
        if work == "way forth":
            self.done.append(("way forth", str(arguments[1])))
            return [dict(step) for step in WAY_FORTH]
        if work == "may return":
            return "too late" if ("step", "back-open", "pass") in self.done else ""
        if work == "may leave":
            return "" if ("step", "forth-swap", "pass") in self.done else "not yet"
        if work == "remaining":
            return self.remaining.get(about, 0.0)
        if work == "status after":
            return "rolled back"
        if work == "step":
            return self._step(about)
        self.done.append((work, *map(_told, arguments[1:])))
        return about if work == "end" else None

    def _step(self, step_id: str) -> dict[str, Any]:
        number = self.attempts.get(step_id, 0)
        self.attempts[step_id] = number + 1
        planned = self.verdicts.get(step_id, ())
        verdict = planned[number] if number < len(planned) else "pass"
        self.done.append(("step", step_id, verdict))
        again = {"again": True} if step_id in self.again else {}
        return {"verdict": verdict, "summary": f"{step_id} {verdict}", **again}


def _told(argument: Any) -> str:
    return str(argument["order"]) if isinstance(argument, Mapping) else str(argument)


@dataclass
class Memory:
    """Records every answer. With `record`, those answers come first, as after a crash. `life` ends the process
    after so many new answers; `unrecorded` lets the last work be done and its answer be lost."""

    world: World
    record: list[tuple[Any, Any]] = field(default_factory=list)
    life: int | None = None
    unrecorded: bool = False
    position: int = 0

    def perform(self, work: str, *arguments: Any) -> Any:
        return self._answer((work, *arguments), lambda: self.world.carry_out(work, arguments))

    def receive(self, timeout: float) -> dict[str, Any] | None:
        return self._answer(("receive", timeout), lambda: self._take(timeout))

    def _take(self, timeout: float) -> dict[str, Any] | None:
        if self.world.queue:
            return dict(self.world.queue.pop(0))
        if timeout >= 7 * 24 * 3600.0:
            raise Stuck
        return None

    def _answer(self, request: tuple[Any, ...], act: Any) -> Any:
        if self.position < len(self.record):
            recorded, answer = self.record[self.position]
            assert request == recorded, f"request {self.position} is {request} and was {recorded}"
            self.position += 1
            return answer
        if self.life is not None and self.life <= 0:
            if self.unrecorded and request[0] != "receive":
                act()
            raise Killed
        answer = act()
        if self.life is not None:
            self.life -= 1
        self.record.append((request, answer))
        self.position += 1
        return answer
