"""A question about a server that is away, on the way back: once the server answers, nobody needs to be woken for it.

The site is closed meanwhile, and the one answer that helps is `retry`. So the conductor looks whether both servers
answer again, and gives that order itself: the course takes it as it takes a person's, and whichever comes first counts.
Questions of any other kind are left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from safepoint.config import format_duration
from safepoint.errors import ServerAway, StillAway
from safepoint.launch.begin import open_question
from safepoint.launch.ledger import Entry, Ledger

BY: Final = "the conductor (PostgreSQL answers again)"
"""Who gave the order, as the ledger and the report have it."""

LOOKS: Final = 2.0
"""Seconds between two looks."""

_LONGEST: Final = 3600.0

Data = Mapping[str, Any]


def awaited(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The question that is open, where it is one of the way back's about a server that is away. Pure."""
    question = open_question(entries)
    if question is None or "retry" not in question["choices"]:
        return None
    key = f"{question['run']}:{question['step']}:{question['attempt']}"
    failed = next((e.data for e in reversed(entries) if e.key == f"{key}:failed"), {})
    begun = next((e.data for e in reversed(entries) if e.key == f"{key}:begun"), {})
    kinds = (ServerAway.__name__, StillAway.__name__)
    away = begun.get("phase") == "rollback" and (failed.get("error") or {}).get("error") in kinds
    return question if away else None


def needed(entries: Sequence[Entry], run: int, step_id: str, *, still: bool) -> float:
    """Seconds for which both servers must have answered before the step is tried again by itself. Pure.

    None where the server was away for a time, once. Where it went away again and again the step may well be what brings
    it down, and others use it, too: so the times grow up to an hour.

    Args:
        still: whether it had not come back when the step was given up.
    """
    given = [e for e in entries if e.kind == "order" and e.step == step_id and e.data.get("run") == run]
    times: int = sum(e.data["by"] == BY and e.data["fate"] == "taken" for e in given) + (not still)
    return min(_LONGEST, 60.0 * (2.0 ** min(times, 10) - 1))


def announced(entries: Sequence[Entry], run: int, step_id: str, error: ServerAway) -> str:
    """What is said with the question: who reads it may go to sleep again. Pure."""
    seconds = needed(entries, run, step_id, still=isinstance(error, StillAway))
    once = "answers" if seconds == 0 else f"has answered for {format_duration(seconds)}"
    return f"The conductor tries again by itself once PostgreSQL {once}; an order of yours goes before."


class ComingBack:
    """Looks while such a question is open. A context: looks between enter and exit.

    Args:
        answers: whether both servers answer now; may take its time.
        retry: gives the order, as the answer to this question.
    """

    def __init__(self, ledger: Ledger, answers: Callable[[], bool], retry: Callable[[Data], None]) -> None:
        self._ledger, self._answers, self._retry = ledger, answers, retry
        self._over = threading.Event()

    def __enter__(self) -> ComingBack:
        threading.Thread(target=self._look_again_and_again, name="coming back", daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()  # not waited for: a connection that nobody answers takes its time

    def _look_again_and_again(self) -> None:
        known, asked, since, given = -1, None, 0.0, False
        while not self._over.wait(LOOKS):
            if len(self._ledger.entries) != known:
                known, former, asked = len(self._ledger.entries), asked, awaited(self._ledger.entries)
                if asked != former:
                    since, given = 0.0, False
            if asked is None or given:  # the course may need a moment to take it up
                continue
            if not self._answers():
                since = 0.0
                continue
            since = since or time.monotonic()
            if time.monotonic() - since >= self._needed(asked) and awaited(self._ledger.entries) == asked:
                given = self._give(asked)

    def _needed(self, asked: Data) -> float:
        failed = self._ledger.find(f"{asked['run']}:{asked['step']}:{asked['attempt']}:failed")
        still = failed is not None and failed.data["error"]["error"] == StillAway.__name__
        return needed(self._ledger.entries, asked["run"], asked["step"], still=still)

    def _give(self, asked: Data) -> bool:
        try:
            if not self._over.is_set():
                self._retry(asked)
        except Exception:  # of the engine's database (a full disk, say): the next look tries it again
            return False
        return True
