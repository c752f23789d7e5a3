"""The way back as a plan: which steps bring the site back, computed from what the ledger says was begun.

Before the migration began nothing of the data has changed: each begun step is taken back, newest first, and the
old release opens on the database that it had. Once the migration began there is one way back for everything: the
twin is swapped in. From the moment that the application may write again (its workers do, long before anybody is let
in) what was written to the migrated database is carried and listed before, and that database is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from safepoint.launch.ground import since_abort
from safepoint.launch.ledger import Entry
from safepoint.launch.plan import Plan
from safepoint.launch.step import PlannedStep
from safepoint.launch.verbs import verb

Where = Literal["untouched", "stopped", "migrated", "written", "open"]

AHEAD: Final = "back-ahead"
"""The step of a rollback that is carried out while the site is still open."""


_OPENED: Final = "forth-open"
_LET_IN: Final = ("canary", "green", _OPENED)


def begun(entries: Sequence[Entry], plan: Plan) -> list[str]:
    """The ids of the plan's steps begun in the current try, in the plan's order. Begun is enough: a kill may
    have come right after.

    After a rollback that was turned round, whether people are let in is what the return says, and not the launch.
    """
    tried = since_abort(entries)
    seen = {entry.step for entry in tried if entry.kind == "step.begun"}
    turned = max((entry.seq for entry in tried if entry.kind == "wayforth"), default=None)
    if turned is None:
        return [step.id for step in plan.steps if step.id in seen]
    opened = any(e.seq > turned and e.kind == "step.begun" and e.step == _OPENED for e in tried)
    return [step.id for step in plan.steps if step.id in seen - set(_LET_IN)] + ([_OPENED] if opened else [])


def where(steps_begun: Sequence[str]) -> Where:
    """How far the launch is, as the way back sees it."""
    if any(step in steps_begun for step in _LET_IN):
        return "open"
    if "unfence" in steps_begun:
        return "written"
    if "migrate" in steps_begun:
        return "migrated"
    return "stopped" if "stop-traffic" in steps_begun or "stage-new" in steps_begun else "untouched"


def way_back(plan: Plan, steps_begun: Sequence[str]) -> tuple[PlannedStep, ...]:
    """The steps of the way back. Pure; empty where nothing of the live system was touched."""
    place = where(steps_begun)
    if place in ("untouched", "stopped"):
        return _take_back(plan, steps_begun)
    return _swap_back(plan, written=place != "migrated", opened=place == "open")


def cannot_return(steps: Sequence[str], done: Sequence[str]) -> str | None:
    """Why a way back cannot be turned round any more, by its steps and those that were begun; None where it can. Pure.

    Until the site opens on the old release nobody but its own processes can have written there: a return lists that.
    """
    if "back-swap" not in steps:
        return "before the migration there is nothing new to return to"
    if "back-list" not in steps:
        return "the migration did not end well, and nobody could write to it: there is nothing whole to return to"
    if "back-open" in done:
        return "the old release is open again, and people write on it"
    return None


def cannot_leave(done: Sequence[str]) -> str | None:
    """Why a return cannot be given up for another rollback yet, by its steps that were done; None where it can. Pure.

    A rollback begins with the migrated database in its place.
    """
    if "forth-swap" in done or _OPENED in done:
        return None
    return "the migrated database has not got its place again yet"


def way_forth(plan: Plan, done: Sequence[str]) -> tuple[PlannedStep, ...]:
    """The steps by which a rollback is turned round; each finds out itself how much of its undoing was done. Pure.

    Args:
        done: the steps of the rollback that were begun. Before it closed the site there is nothing to undo; but only
            the canary's clients may have been let in.
    """
    old, new = plan.old, plan.new
    rows: list[tuple[str, str, str, dict[str, Any]]] = [
        ("forth-stop-traffic", "stop-traffic", "Keep the site closed", {}),
        ("forth-stop-old", "stop-release", f"Stop {old}", {"release": "old", "wait": True}),
        ("forth-fence", "fence", "Stop writes at the database", {}),
        ("forth-between", "list-between", f"List what {old} wrote meanwhile", {}),
        ("forth-settled", "end-between", "Remove the capture of it", {}),
        ("forth-swap", "swap-forth", "Give the migrated database its place again", {}),
        *([("forth-lead", "lead", "Lead the application back to its server", {"back": True})] if plan.led else []),
        ("forth-unfence", "unfence", "Let the application write again", {}),
        ("forth-start-new", "start-release", f"Start {new}", {"release": "new"}),
        ("forth-cache", "clear-cache", "Clear the cache", {"release": "new"}),
        ("forth-open", "open-traffic", f"Open the site on {new}", {"release": "new"}),
    ]
    if "back-stop-traffic" not in done:
        rows = rows[-1:]
    return tuple(
        PlannedStep(step_id, name, title, "rollback", params=params, on_failure="ask")
        for step_id, name, title, params in rows
    )


def _take_back(plan: Plan, steps_begun: Sequence[str]) -> tuple[PlannedStep, ...]:
    steps = []
    for step in reversed([step for step in plan.steps if step.id in steps_begun]):
        taken_back = verb(step.verb).revert(step)
        if taken_back is not None:
            steps.append(taken_back)
    # The site waits for what serves it, and for nothing else: a twin of any size, on a server that may be away, goes
    # when people are in again.
    serving = ("unfence", "start-release", "open-traffic")
    steps.sort(key=lambda step: serving.index(step.verb) if step.verb in serving else len(serving))
    return tuple(steps)


def _swap_back(plan: Plan, *, written: bool, opened: bool) -> tuple[PlannedStep, ...]:
    old, new = plan.old, plan.new
    rows: list[tuple[str, str, str, dict[str, Any]]] = []
    if opened:
        rows += [(AHEAD, "carry-ahead", f"Carry what is there already, while {new} is open", {})]
    rows += [
        ("back-stop-traffic", "stop-traffic", "Close the site: 503 with Retry-After", {}),
        ("back-stop-new", "stop-release", f"Stop {new}", {"release": "new", "wait": not plan.fenced}),
        ("back-fence", "fence", "Stop writes at the database", {}),
    ]
    rows += [("back-ready", "ready-old", f"Load {old} meanwhile", {})]
    if written:
        rows += [("back-drain", "drain", "Take what was written off the capture, up to the stop", {})]
        rows += [("back-carry", "carry", "Carry it back into the twin, by the proven mapping", {})]
    rows += [
        ("back-swap", "swap", "Swap the twin in", {}),
        *([("back-lead", "lead", "Lead the application to the twin's server", {})] if plan.led else []),
        ("back-new-gone", "release-gone", f"See that {new} is gone", {"release": "new"}),
        ("back-between", "watch-between", f"Capture what {old} writes until the site is open", {}),
        ("back-unfence", "unfence", "Let the application write again", {}),
        ("back-start-old", "start-release", f"Start {old}", {"release": "old"}),
        ("back-cache", "clear-cache", "Clear the cache", {"release": "old"}),
        ("back-check", "check-old", f"Check that {old} has its schema and its data back", {}),
        ("back-open", "open-traffic", f"Open the site on {old}", {"release": "old"}),
        ("back-settled", "end-between", "Remove that capture: there is no return any more", {}),
    ]
    if written:
        rows += [("back-list", "list-written", "List what was written since the safe point, with its users", {})]
        rows += [("back-tell", "tell-affected", "Say who is affected, and what to tell them", {})]
    rows += [
        ("back-logs", "keep-logs", "Keep what was logged since the site was closed", {}),
        ("back-disarm", "disarm", "Remove the capture from the kept database", {}),
        ("back-stash", "keep-stash", "Keep what has no home here for the next launch", {}),
        ("back-forget", "forget-replay", "Leave nothing of Safepoint in the live database", {}),
    ]
    return tuple(
        PlannedStep(step_id, name, title, "rollback", params=params, on_failure="ask")
        for step_id, name, title, params in rows
    )
