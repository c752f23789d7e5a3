"""The spans that a launch is measured by: the window, the downtime of a rollback, who was let in when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from safepoint.launch.ledger import Entry

Span = dict[str, Any]


def seconds_between(start: str, end: str) -> float | None:
    """Seconds from one ISO time to a later one, to the millisecond; None where the clock was set back in between."""
    seconds = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)
    return seconds if seconds >= 0 else None


def _moment(entries: Sequence[Entry], kind: str, step: str, run: int) -> str | None:
    """When a step first began, or was first done, in a run."""
    return next((e.at for e in entries if e.kind == kind and e.step == step and e.data["run"] == run), None)


def window(entries: Sequence[Entry]) -> dict[str, Any]:
    """The window of the newest run that closed the site: from the begin of `stop-traffic` to the end of `green`.

    `migrate_seconds` is what the migration itself took; `minus_migrate_seconds` is what Safepoint added to it.
    Values that are not known (yet) are None.
    """
    runs = [e.data["run"] for e in entries if e.kind == "step.begun" and e.step == "stop-traffic"]
    if not runs:
        return dict.fromkeys(("started", "ended", "seconds", "migrate_seconds", "minus_migrate_seconds"))
    run = runs[-1]
    started = _moment(entries, "step.begun", "stop-traffic", run)
    ended = _moment(entries, "step.done", "green", run)
    migrate = next(
        (
            float(e.data["evidence"].get("migrate_seconds", e.data["seconds"]))
            for e in reversed(entries)
            if e.kind == "step.done" and e.step == "migrate" and e.data["run"] == run
        ),
        None,
    )
    total = seconds_between(started, ended) if started and ended else None
    return {
        "started": started,
        "ended": ended,
        "seconds": total,
        "migrate_seconds": None if migrate is None else round(migrate, 3),
        "minus_migrate_seconds": None if total is None or migrate is None else round(total - migrate, 3),
    }


def downtime(entries: Sequence[Entry], way: Entry, spans: Sequence[Span]) -> dict[str, Any]:
    """How long visitors were kept out for a way back, until the end of its opening; `spans` as `site` has them.

    A way back that found the site closed already (the launch was aborted within the window) counts from that closing,
    though it closes the site once more.
    """
    opening = {step["id"] for step in way.data["steps"] if step["verb"] == "open-traffic"} or {"back-open"}
    ended = next((e.at for e in entries if e.seq > way.seq and e.kind == "step.done" and e.step in opening), None)
    started = next((span["from"] for span in spans if span["open"] == "closed" and span["to"] == ended), None)
    return {
        "started": started,
        "ended": ended,
        "seconds": seconds_between(started, ended) if started and ended else None,
    }


def site(entries: Sequence[Entry], planned: Mapping[str, Mapping[str, Any]]) -> list[Span]:
    """Who was let in when: spans with `open` = `old`, `closed`, `canary` or `new`; the last one has no end.

    The site counts as closed from the begin of the closing, and as open only when the opening is proven; a closing
    that was refused before it did anything (the go for it was too old) has closed nothing.
    """
    spans: list[Span] = []
    begun: str | None = None
    for entry in entries:
        if entry.kind == "step.begun":
            begun = entry.at
        elif _refused(entry) and len(spans) > 1 and spans[-1] == {"from": begun, "to": None, "open": "closed"}:
            spans.pop()
            spans[-1]["to"] = None
        state = "old" if not spans else _let_in(entry, planned)
        if state is None or (spans and spans[-1]["open"] == state):
            continue
        if spans:
            spans[-1]["to"] = entry.at
        spans.append({"from": entry.at, "to": None, "open": state})
    return spans


def _refused(entry: Entry) -> bool:
    """Whether the closing of the site for the window ended before it did anything."""
    if entry.kind != "step.failed" or entry.step != "stop-traffic":
        return False
    return (entry.data.get("error") or {}).get("error") in ("NeedsPerson", "Refused")


def _let_in(entry: Entry, planned: Mapping[str, Mapping[str, Any]]) -> str | None:
    if entry.step is None or entry.kind not in ("step.begun", "step.done"):
        return None
    step = planned.get(entry.step, {})
    verb = step.get("verb", entry.step.removeprefix("back-"))
    begun = entry.kind == "step.begun"
    if verb == "stop-traffic":
        return "closed" if begun else None
    if verb == "canary":
        return "canary" if begun else None
    if verb == "open-traffic" and not begun:
        return "new" if step.get("params", {}).get("release") == "new" else "old"
    return None
