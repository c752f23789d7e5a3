"""What a launch that failed before its window takes back: it may lie for days before somebody goes on with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safepoint.errors import SafepointError
from safepoint.launch import undo
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Entry
from safepoint.launch.plan import Plan
from safepoint.launch.step import PlannedStep
from safepoint.launch.verbs import verb
from safepoint.launch.wayback.levelling import clear


def leave_nothing_running(ground: Callable[[PlannedStep], Ground], plan: Plan, entries: Sequence[Entry]) -> str:
    """The feed of its twin, which would keep the server from removing its log, and the new release that was staged,
    whose workers would take the old one's work in the live database.

    Returns:
        What a person has to do where that release could not be stopped; else nothing.
    """
    clear(ground(plan.steps[0]))
    begun = undo.begun(entries, plan)
    for step in plan.steps:
        taken_back = verb(step.verb).revert(step) if step.verb == "stage" and step.id in begun else None
        if taken_back is not None:
            try:
                verb(taken_back.verb).apply(ground(taken_back))
            except SafepointError as error:
                return f"; and it may be at work in the live database: {error.message} {error.remedy or ''}".rstrip()
    return ""
