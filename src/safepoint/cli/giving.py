"""An order is given to the run that is under way, and whether somebody takes it up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from safepoint.cli.saying import echo
from safepoint.errors import Refused

if TYPE_CHECKING:
    from safepoint.config import PlanFile

_HEEDING = 5.0
"""Seconds within which a conductor that is alive has taken up an order that ends its step; it may be busy ending it."""
_LEAVING = 10.0
"""Seconds for which a conductor whose run has ended is waited for."""
_ANSWERS = ("go", "retry")
"""The orders that mean nothing but for a question."""
_LOOK = 0.1
"""Seconds between two looks: of another process's ledger and lock nobody is told."""


def give(plan_file: PlanFile, word: str, *, json_: bool, interrupts: bool = False, **details: Any) -> bool:
    """Give an order to the run that is under way.

    Args:
        interrupts: it ends the running step. A conductor takes it up at once then.

    Returns:
        False where the run ended just before it came: nothing was said, and nobody will read it.
    """
    from safepoint.launch.begin import entries_of, launch_folder, status_of
    from safepoint.launch.conductor import make_order
    from safepoint.launch.engine import send
    from safepoint.launch.heeding import interrupt
    from safepoint.launch.storage import told

    entries = entries_of(plan_file)
    status = status_of(entries)
    if status is not None and interrupts:
        return False
    if status is not None:
        raise Refused(
            f"The launch {plan_file.launch_id} is over: it was {status}.",
            subject=plan_file.launch_id,
            remedy="`safepoint launch` goes on with it; see `safepoint report`."
            if status == "failed"
            else "Nothing of it runs that could take this order; see `safepoint status`.",
        )
    runs = [entry.data["run"] for entry in entries if entry.kind == "run"]
    if not runs:
        raise Refused(
            f"The launch {plan_file.launch_id} is just beginning, and takes no order yet. Nothing is touched so far.",
            subject=plan_file.launch_id,
            remedy=f"Give it again in a moment: `safepoint {word}`.",
        )
    order, folder = make_order(word, **details), launch_folder(plan_file)
    try:
        send(folder, f"{plan_file.launch_id}:{runs[-1]}", order)
    except Exception as error:  # of the engine's database, which is a file of ours
        raise told(error, subject=str(folder), begun=True) from error
    heeded: bool | None = None
    if interrupts:
        interrupt(folder)
        try:
            heeded = _heeded(plan_file, order["id"])
        except KeyboardInterrupt:  # a second thought, which comes too late for this
            back = "`safepoint return` turns that round." if word == "rollback" else "See `safepoint status`."
            echo(f"safepoint: {word} was given before this command was interrupted, and stands. {back}", err=True)
            raise
        if heeded is False:
            return False
    _tell(plan_file, word, order, waits=interrupts and heeded is None, json_=json_)
    return True


def _tell(plan_file: PlanFile, word: str, order: dict[str, Any], *, waits: bool, json_: bool) -> None:
    """Who has it now, and what that one does not know of the plan file.

    Args:
        waits: it should have been taken up by now.
    """
    from safepoint.launch.begin import launch_folder
    from safepoint.launch.edited import edited
    from safepoint.launch.lock import holder

    alive = holder(plan_file.conductor_lock)
    if alive is not None and alive.launch != plan_file.launch_id:
        alive = None
    since = edited(plan_file, launch_folder(plan_file)) if alive or plan_file.fault else None
    if json_:
        import json

        given = {"launch": plan_file.launch_id, "order": order["order"], "id": order["id"]}
        known = {"conductor": str(alive) if alive else None, "edited": str(since) if since else None}
        answers = order.get("gate") if word in _ANSWERS else None
        echo(json.dumps({**given, **known, "answers": answers, "waits": waits and alive is not None}))
        return
    if word in _ANSWERS and (asked := _asked(plan_file, order)):
        echo(f"{word} answers {order['gate']}: {asked}")
    if alive:
        echo(f"{word}: given to the conductor ({alive}).")
        if waits:
            echo(
                f"It has not taken it up within {_HEEDING:.0f} s: it may be ending its step, see `safepoint status`. "
                f"Where it goes on standing still: `kill -9 {alive.pid}` on {alive.machine}, which loses nothing; then "
                f"`safepoint {word}` conducts by itself."
            )
        if since and not plan_file.fault:  # that was said before
            echo(str(since))
    else:
        on = "waits for a person before its next step" if word == "hold" else "goes on"
        echo(f"{word}: written down. No conductor is alive: `safepoint launch` takes it up and {on}.")


def begun_by_another(plan_file: PlanFile) -> bool:
    """Whether another terminal was quicker to become the conductor, in the moment in which nobody was; once it has
    begun what it conducts.
    """
    from safepoint.launch.begin import entries_of, status_of
    from safepoint.launch.lock import held

    deadline = time.monotonic() + _LEAVING
    while there := held(plan_file.conductor_lock, plan_file.launch_id):
        if status_of(entries_of(plan_file)) is None or time.monotonic() >= deadline:
            break
        time.sleep(_LOOK)
    return there


def _asked(plan_file: PlanFile, order: dict[str, Any]) -> str:
    """The question that an order answers: another one may have been open than whoever gave it had read."""
    from safepoint.launch.begin import entries_of

    asked = [e for e in entries_of(plan_file) if e.kind == "ask" and e.step == order.get("gate")]
    return str(asked[-1].data["question"]) if asked else ""


def let_end(plan_file: PlanFile, word: str) -> None:
    """Wait until the conductor of a run that has ended has left: its lock is free in a moment.

    Raises:
        Refused: something else holds it (`retire`).
    """
    from safepoint.launch.lock import held, holder

    deadline = time.monotonic() + _LEAVING
    while held(plan_file.conductor_lock, plan_file.launch_id):
        if time.monotonic() >= deadline:
            raise Refused(
                f"Another command is at work, and takes no order: {holder(plan_file.conductor_lock)}.",
                subject=plan_file.launch_id,
                remedy=f"Wait for its end; then give this again: `safepoint {word}`.",
            )
        time.sleep(_LOOK)


def _heeded(plan_file: PlanFile, order_id: str) -> bool | None:
    """Whether an order that ends the running step is taken up; False where the run ended before it was read, None where
    neither came to be in time.

    Raises:
        Refused: it was answered with why it is not.
    """
    from safepoint.launch.begin import entries_of, status_of

    deadline = time.monotonic() + _HEEDING
    while time.monotonic() < deadline:
        entries = entries_of(plan_file)
        fate = next((entry.data["fate"] for entry in entries if entry.key == f"order:{order_id}"), None)
        if fate is not None and fate.startswith("ignored: "):
            raise Refused(
                f"It came too late, and was not taken: {fate.removeprefix('ignored: ')}.",
                subject=plan_file.launch_id,
                remedy="See `safepoint status`, which says what goes on, and by whose order.",
            )
        if fate is not None:
            return True
        if status_of(entries) is not None:
            return False
        time.sleep(_LOOK)
    return None
