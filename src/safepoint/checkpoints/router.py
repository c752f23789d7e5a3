"""The checkpoint of the router: whether it still lets in whom it was told to, and what people are answered by it."""

from __future__ import annotations

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.routers import Router, RouterState
from safepoint.routers.http import exchange

_NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers for a release that it does not reach, or that it keeps closed."""


def look(router: Router, told: RouterState) -> Checkpoint:
    """Ask it what it does; where everyone is let in, ask it for a page as well.

    Raises:
        RouterError: it does not answer.
    """
    found = router.state()
    seen = exchange("GET", router.url, headers={"Accept": "*/*"}).status if told.mode == "open" else None
    return judge(told, found, seen)


def judge(told: RouterState, found: RouterState, seen: int | None) -> Checkpoint:
    """Judge a look. One that was restarted has its own configuration again, which mostly names the old release. Pure.

    Args:
        seen: the status of a page that was asked for; None where nobody asked.
    """
    if found.mode != told.mode or found.upstream not in (None, told.upstream):
        return Checkpoint(
            "router",
            "Router",
            "fail",
            detail=f"it was told {_shown(told)}, and it says {_shown(found)}: it was restarted, or others changed it",
            remedy=f"Let it say {_shown(told)} again, in its own configuration, too.",
        )
    if seen in _NOBODY_BEHIND:
        detail = f"it says {_shown(found)}, and answers people with {seen}"
        return Checkpoint("router", "Router", "fail", value=seen, unit="HTTP status", detail=detail)
    return Checkpoint("router", "Router", "pass", value=seen, unit="HTTP status", detail=_shown(found))


def _shown(state: RouterState) -> str:
    return " ".join((state.mode, *([state.upstream] if state.upstream else ())))
