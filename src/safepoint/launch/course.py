"""The course of a launch: which step comes next, what a failure or an order leads to, when the way back is taken.

Pure control flow over a `Durable`: every look at the world, the clock and the ledger goes through
`Durable.perform`, so that a course which is run again after a crash takes exactly the turns that it took before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FOREVER = 7 * 24 * 3600.0
"""Seconds for which one `receive` waits for a person; it is asked again when they are over."""

_EARLIER = "ignored: it answers an earlier question"

_FOUND = 300
"""Characters of what was found that a question repeats; all of it stands in the ledger."""


class Durable(Protocol):
    """Durable execution: what was performed or received once is answered from the record after a crash."""

    def perform(self, work: str, *arguments: Any) -> Any:
        """Carry out a named piece of work and record its JSON-safe answer. A crash before that repeats the work."""
        ...

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """The next order of a person, or None when `timeout` seconds are over."""
        ...


@dataclass(frozen=True)
class Turn:
    """What follows a step: go on, take the way back (with the reason), or stop here."""

    to: Literal["on", "back", "stop"]
    reason: str = ""
    by: str | None = None


ON = Turn("on")


def launch(durable: Durable, run: int) -> str:
    """Carry out the plan; answers the status at the end: `launched`, `failed`, `aborted` or `rolled back`."""
    for step in durable.perform("plan", run):
        turn = _before(durable, run, step)
        if turn.to == "on":
            turn = _carry_out(durable, run, step)
        if turn.to == "back":
            return back(durable, run, turn.reason, turn.by)
        if turn.to == "stop":
            return str(durable.perform("end", run, "failed", turn.reason))
    if (last := _too_late(durable, run)) is not None:
        return back(durable, run, last.reason, last.by)
    return str(durable.perform("end", run, "launched", ""))


def _too_late(durable: Durable, run: int) -> Turn | None:
    """The orders that came while the last step ended: an abort or a rollback still wins."""
    while (order := durable.receive(0.0)) is not None:
        if (turn := _turn(durable, run, None, order)) is not None:
            return turn
    return None


def back(durable: Durable, run: int, reason: str, by: str | None) -> str:
    """Take the way back from wherever the launch is. A failure on it is asked about, never walked past."""
    steps: Sequence[Mapping[str, Any]] = durable.perform("way back", run, reason, by)
    for step in steps:
        turned = _until_done(durable, run, step, ("way back", reason, by), _turns_forth, _asked_back)
        if turned is not None:
            return forth(durable, run, turned)
    return str(durable.perform("end", run, durable.perform("status after", run), reason))


def forth(durable: Durable, run: int, order: Mapping[str, Any]) -> str:
    """Turn round on the way back: return to the new release and the migrated database. A failure is asked about."""
    reason = f"{order['order']} ordered by {order['by']}"
    for step in durable.perform("way forth", run, reason, order["by"]):
        left = _until_done(durable, run, step, ("way forth", reason, order["by"]), _may_leave, _asked_forth)
        if left is not None:
            # The launch ends as it was before the rollback; whoever conducts begins another one for this order.
            return str(durable.perform("end", run, "launched", f"{left['order']} ordered by {left['by']}"))
    return str(durable.perform("end", run, "launched", reason))


def _until_done(
    durable: Durable,
    run: int,
    step: Mapping[str, Any],
    way: tuple[str, str, str | None],
    turns: Callable[[Durable, int, str, Mapping[str, Any]], bool],
    asked: Callable[[Durable, int, Mapping[str, Any], int, Mapping[str, Any]], bool | Mapping[str, Any]],
) -> Mapping[str, Any] | None:
    """One step of a way back or forth, until it is done, whatever its `on_failure` says: nothing lies behind it.

    Args:
        way: the work that plans the way (and lets steps run again after an order ended one), its reason, and by whom.
        turns: says of an order that ended the step whether it leads somewhere else, and tells its fate.
        asked: asks a person about a failure: go on without the step, try it again, or the order that leads elsewhere.

    Returns:
        The order that leads somewhere else, where one came.
    """
    work, reason, by = way
    attempt = 1
    while True:
        outcome = durable.perform("step", run, step["id"], attempt)
        if outcome["verdict"] == "pass":
            return None
        if outcome["verdict"] == "interrupted":
            # The order may be here, or may be the one that brought us onto this way, so nobody waits for it.
            durable.perform(work, run, reason, by)
            while (order := durable.receive(0.0)) is not None:
                if turns(durable, run, step["id"], order):
                    return order
        else:
            answer = asked(durable, run, step, attempt, outcome)
            if answer is True:
                return None
            if answer is not False:
                return answer
        attempt += 1


def _asked_forth(
    durable: Durable, run: int, step: Mapping[str, Any], attempt: int, outcome: Mapping[str, Any]
) -> bool | Mapping[str, Any]:
    """Ask about a failure on the way forth; True means go on without the step, which only a doubt allows.

    An order to take the way back after all is given back as it is: a new release that does not start is no place to
    be left at.
    """
    choices = ["go", "retry", "rollback"] if outcome["verdict"] == "inconclusive" else ["retry", "rollback"]
    durable.perform("ask", run, step["id"], attempt, _question(outcome), choices)
    while True:
        order = durable.receive(FOREVER)
        if order is None:
            continue
        if order["order"] in ("go", "retry") and order["order"] in choices and _answers(order, step, attempt):
            durable.perform("order", run, step["id"], order, "taken")
            return bool(order["order"] == "go")
        if _may_leave(durable, run, step["id"], order, otherwise=f"this step takes {' or '.join(choices)}"):
            return order


def _may_leave(
    durable: Durable,
    run: int,
    step_id: str,
    order: Mapping[str, Any],
    *,
    otherwise: str = "the new release is being returned to",
) -> bool:
    """Whether an order gives the return up for another rollback; where it does not, that is told."""
    if order["order"] not in ("abort", "rollback"):
        durable.perform("order", run, step_id, order, f"ignored: {otherwise}")
        return False
    refusal = durable.perform("may leave", run)
    fate = f"ignored: {refusal}; `safepoint retry` goes on" if refusal else "taken"
    durable.perform("order", run, step_id, order, fate)
    return not refusal


def _may_return(durable: Durable, run: int, step_id: str, order: Mapping[str, Any]) -> bool:
    """Whether an order to return turns the way back round; where it is too late for that, it is told."""
    refusal = durable.perform("may return", run)
    durable.perform("order", run, step_id, order, f"ignored: {refusal}" if refusal else "taken")
    return not refusal


def _turns_forth(durable: Durable, run: int, step_id: str, order: Mapping[str, Any]) -> bool:
    """Whether an order that ended a step of the way back turns it round; one to go back is told that it is done."""
    if order["order"] == "return":
        return _may_return(durable, run, step_id, order)
    closes = order.get("stop_first")  # its step looks for that in the ledger
    fate = "taken" if closes else "ignored: the way back is being taken already"
    durable.perform("order", run, step_id, order, fate)
    return False


def _asked_back(
    durable: Durable, run: int, step: Mapping[str, Any], attempt: int, outcome: Mapping[str, Any]
) -> bool | Mapping[str, Any]:
    """Ask a person about a failure on the way back; True means go on without it, which only a doubt allows.

    An order to return to the new release is given back as it is.
    """
    choices = ["go", "retry"] if outcome["verdict"] == "inconclusive" else ["retry"]
    durable.perform("ask", run, step["id"], attempt, _question(outcome), choices)
    while True:
        order = durable.receive(FOREVER)
        if order is None:
            continue
        if order["order"] == "return":
            if _may_return(durable, run, step["id"], order):
                return order
            continue
        if not _answers(order, step, attempt):
            durable.perform("order", run, step["id"], order, _EARLIER)
            continue
        if order["order"] == "go" and "go" in choices:
            durable.perform("order", run, step["id"], order, "taken")
            durable.perform("decided", run, step["id"], attempt, order["by"])
            return True
        if order["order"] in ("retry", "abort", "rollback"):  # all of them want the way back to go on
            durable.perform("order", run, step["id"], order, "taken")
            return False
        durable.perform("order", run, step["id"], order, f"ignored: this step takes {' or '.join(choices)}")


def _answers(order: Mapping[str, Any], step: Mapping[str, Any], attempt: int) -> bool:
    """Whether an order answers this question. One that was given twice must not answer the next, which nobody read."""
    return order.get("gate") in (None, step["id"]) and order.get("attempt") in (None, attempt)


def _question(outcome: Mapping[str, Any]) -> str:
    """What a person is asked: what happened, what was found there, and what may help before answering."""
    found = " ".join(str(outcome.get("found") or "").split())
    parts = [outcome["summary"], f"Found: {found[:_FOUND].rstrip('.')}." if found else "", outcome.get("remedy") or ""]
    return " ".join(part for part in parts if part)


def _before(durable: Durable, run: int, step: Mapping[str, Any]) -> Turn:
    """The boundary before a step: wait for its time, and take the orders that have come."""
    look = 0
    while True:
        remaining = durable.perform("remaining", run, step["id"], look)
        order = durable.receive(min(remaining, FOREVER))
        look += 1
        if order is None:
            if remaining <= FOREVER:
                return ON
            continue
        turn = _held(durable, run, step, order) if order["order"] == "hold" else _turn(durable, run, step, order)
        if turn is not None:
            return turn


def ordered(order: Mapping[str, Any]) -> str:
    """An order as the reason of a way back: who gives another one has to know whether data are carried. Pure."""
    how = " --discard" if order.get("discard") else ""
    return f"{order['order']}{how} ordered by {order['by']}"


def _turn(durable: Durable, run: int, step: Mapping[str, Any] | None, order: Mapping[str, Any]) -> Turn | None:
    """What an order means at a boundary; None where it means nothing (which is told)."""
    step_id = None if step is None else step["id"]
    if order["order"] in ("abort", "rollback"):
        durable.perform("order", run, step_id, order, "taken")
        return Turn("back", ordered(order), order["by"])
    durable.perform("order", run, step_id, order, "ignored: no gate is open and nothing waits for it")
    return None


def _held(durable: Durable, run: int, step: Mapping[str, Any], order: Mapping[str, Any]) -> Turn | None:
    durable.perform("order", run, step["id"], order, "taken")
    durable.perform("ask", run, step["id"], 0, f"held by {order['by']} before this step", ["go", "abort"])
    while True:
        answer = durable.receive(FOREVER)
        if answer is None:
            continue
        if answer["order"] == "hold":
            durable.perform("order", run, step["id"], answer, "ignored: it is held already")
            continue
        if answer["order"] == "go" and _answers(answer, step, 0):
            durable.perform("order", run, step["id"], answer, "taken")
            return None
        if (turn := _turn(durable, run, step, answer)) is not None:
            return turn


def _carry_out(durable: Durable, run: int, step: Mapping[str, Any]) -> Turn:
    """One step with its attempts: a person's answers stand between them."""
    attempt = 1
    while True:
        outcome = durable.perform("step", run, step["id"], attempt)
        verdict = outcome["verdict"]
        if verdict == "pass":
            return ON
        if verdict == "interrupted":
            return _interrupted(durable, run, step)
        on_failure = "ask" if outcome.get("ask") and step["on_failure"] == "undo" else step["on_failure"]
        if verdict == "fail" and on_failure != "ask":
            return Turn("stop" if on_failure == "stop" else "back", outcome["summary"])
        turn = _asked(durable, run, step, attempt, outcome)
        if turn is not None:
            return turn
        attempt += 1


def _interrupted(durable: Durable, run: int, step: Mapping[str, Any]) -> Turn:
    """A step was ended by an order: it is on its way to us."""
    while True:
        order = durable.receive(FOREVER)
        if order is not None and (turn := _turn(durable, run, step, order)) is not None:
            return turn


def _asked(
    durable: Durable, run: int, step: Mapping[str, Any], attempt: int, outcome: Mapping[str, Any]
) -> Turn | None:
    """Ask a person; None means try again. A gate that failed cannot be waved through, one in doubt can.

    A doubt about something that goes on (`again`) may be answered by going on with it, too.
    """
    choices = ["go", "abort"] if outcome["verdict"] == "inconclusive" else ["retry", "abort"]
    if outcome["verdict"] == "inconclusive" and outcome.get("again"):
        choices.insert(1, "retry")
    durable.perform("ask", run, step["id"], attempt, _question(outcome), choices)
    while True:
        order = durable.receive(FOREVER)
        if order is None:
            continue
        if order["order"] in ("go", "retry") and not _answers(order, step, attempt):
            durable.perform("order", run, step["id"], order, _EARLIER)
            continue
        if order["order"] == "go" and "go" in choices:
            durable.perform("order", run, step["id"], order, "taken")
            durable.perform("decided", run, step["id"], attempt, order["by"])
            return ON
        if order["order"] == "retry":
            durable.perform("order", run, step["id"], order, "taken")
            return None
        turn = _turn(durable, run, step, order)
        if turn is not None:
            return turn
