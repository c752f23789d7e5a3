"""The runs of a launch as its ledger has them: each is one course, begun by a person, and gone on with after a kill."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from safepoint.launch.ledger import Ledger
from safepoint.launch.lock import Holder
from safepoint.launch.versions import note
from safepoint.person import person


def open_run(ledger: Ledger) -> int | None:
    """The run that was begun and has no end: a former conductor died in it."""
    runs = [entry.data["run"] for entry in ledger.entries if entry.kind == "run"]
    return runs[-1] if runs and ledger.find(f"end:{runs[-1]}") is None else None


def course_of(ledger: Ledger, run: int) -> str:
    """By which course it was begun: `launch` or `rollback`."""
    entry = ledger.find(f"run:{run}")
    return "launch" if entry is None else str(entry.data["course"])


def begin_run(ledger: Ledger, name: str, order: Mapping[str, Any] | None, *, hurry: bool = False) -> int:
    """Record another one, begun by this process; with `hurry` it waits for no moment of the timetable."""
    run = 1 + sum(entry.kind == "run" for entry in ledger.entries)
    facts: dict[str, Any] = {
        "run": run,
        "course": name,
        "by": person(),
        "machine": socket.gethostname(),
        "pid": os.getpid(),
    }
    facts["hurry"] = hurry
    if other := note(ledger.entries):
        facts["note"] = other.removeprefix(", ")
    ledger.append("run", f"run:{run}", {**facts, "order": dict(order) if order else None})
    return run


def order_that_left(ledger: Ledger, run: int) -> Mapping[str, Any] | None:
    """The order that gave up a run's return to the new release for another rollback; None where none did."""
    forth = ledger.find(f"wayforth:{run}")
    if forth is None:
        return None
    taken = [
        entry.data
        for entry in ledger.entries
        if entry.kind == "order"
        and entry.seq > forth.seq
        and entry.data["run"] == run
        and entry.data["fate"] == "taken"
    ]
    order = next((data for data in taken if data["order"] in ("abort", "rollback")), None)
    return None if order is None else {name: value for name, value in order.items() if name not in ("run", "fate")}


def note_resumed(ledger: Ledger, run: int, former: Holder | None, *, hurry: bool = False) -> None:
    """Record that this process goes on with it.

    Args:
        former: the conductor that ended without a word.
        hurry: as for `begin_run`.
    """
    times = 1 + sum(entry.kind == "resumed" for entry in ledger.entries)
    ledger.append(
        "resumed",
        f"resumed:{run}:{times}",
        {
            "run": run,
            "by": person(),
            "machine": socket.gethostname(),
            "pid": os.getpid(),
            "hurry": hurry,
            "after": (f"the former conductor ended without a word ({former})" if former else "an interruption")
            + note(ledger.entries),
        },
    )
