"""Orders to stop and start that a release was given: one is over before the other is given, or the later one loses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from safepoint.launch.ground import Ground, Which, since_abort

_STOPS: Final = {"old": ("stop-old", "forth-stop-old"), "new": ("back-stop-new",)}
_STARTS: Final = ("back-ready", "back-start-old")
_SETTLES: Final = {
    "old": ("old-gone", "forth-stop-old", "undo-stop-old", "back-start-old"),
    "new": ("back-new-gone", "forth-start-new"),
}


def stopping(ground: Ground, which: Which) -> str:
    """The name of the order to stop that is given beside the steps."""
    return f"stop {ground.release(which).version}"


def starting(ground: Ground, which: Which) -> str:
    """The name of the order to start that is given beside the steps."""
    return f"start {ground.release(which).version}"


def may_be_stopping(ground: Ground, which: Which) -> bool:
    """Whether a former conductor told it to stop and did not live to see it gone: that command may go on without it."""
    return _left_over(ground, _STOPS[which], _SETTLES[which])


def may_be_starting(ground: Ground, which: Which) -> bool:
    """Whether a former conductor had it started on the way back and did not live to see it: it may come up yet."""
    return which == "old" and _left_over(ground, _STARTS, _SETTLES[which])


def _left_over(ground: Ground, orders: Collection[str], settling: Collection[str]) -> bool:
    ordered, settled, resumed = 0, 0, 0
    for entry in since_abort(ground.ledger.entries):
        if entry.kind == "step.begun" and entry.step in orders:
            ordered = entry.seq
        elif entry.kind == "step.done" and entry.step in settling:
            settled = entry.seq
        elif entry.kind == "resumed":
            resumed = entry.seq
    return settled < ordered < resumed
