"""What became of each step: its attempts, its verdict, and the question that stands open about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safepoint.launch.ledger import Entry
from safepoint.launch.report.times import seconds_between

Row = dict[str, Any]


def planned(entries: Sequence[Entry]) -> dict[str, Mapping[str, Any]]:
    """The steps that the plan and the ways back name, by id, in the order in which they were planned."""
    steps: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.kind == "launch":
            steps.update({step["id"]: step for step in entry.data["plan"]["steps"]})
        elif entry.kind in ("wayback", "wayforth"):
            steps.update({step["id"]: {"phase": "rollback", **step} for step in entry.data["steps"]})
    return steps


def of_newest_begin(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The ledger as if the launch had been begun once: what its newest run is about, and a rollback after that.

    An earlier run failed before its window, or was aborted: what it did says nothing of how things are now.
    """
    begun = [i for i, entry in enumerate(entries) if entry.kind == "run" and entry.data["course"] == "launch"]
    if len(begun) < 2:
        return entries
    return [*(entry for entry in entries[: begun[-1]] if entry.kind == "launch"), *entries[begun[-1] :]]


def open_question(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """The question that waits for a person, or None: anything that happens after it has answered it."""
    question: dict[str, Any] | None = None
    for entry in entries:
        if entry.kind == "ask":
            question = {"step": entry.step, "asked": entry.at, **entry.data}
        elif _answers(entry):
            question = None
    return question


def _answers(entry: Entry) -> bool:
    if entry.kind == "order":
        return bool(entry.data["fate"] == "taken")
    return entry.kind in ("decided", "step.begun", "wayback", "wayforth", "end")


def step_rows(entries: Sequence[Entry]) -> list[Row]:
    """One row for each step id: first those that began, in the order of their first begin, then those not reached."""
    plans = planned(entries)
    attempts = _attempts(entries)
    decided = {entry.step: {"by": entry.data["by"], "at": entry.at} for entry in entries if entry.kind == "decided"}
    question = open_question(entries)
    order = [*attempts, *(step_id for step_id in plans if step_id not in attempts)]
    rows = [_row(step_id, plans.get(step_id, {}), attempts.get(step_id, [])) for step_id in order]
    for row in rows:
        row["decided"] = decided.get(row["id"])
        if question is not None and question["step"] == row["id"]:
            row["verdict"] = "waiting"
    return rows


def _attempts(entries: Sequence[Entry]) -> dict[str, list[Row]]:
    """Every attempt of every step. One that neither ended nor can go on any more was interrupted."""
    found: dict[tuple[int, str, int], Row] = {}
    by_step: dict[str, list[Row]] = {}
    for entry in entries:
        if entry.kind in ("end", "wayback", "wayforth"):
            _close(found.values(), entry)
        if entry.step is None or not entry.kind.startswith("step."):
            continue
        key = (entry.data["run"], entry.step, entry.data["attempt"])
        if entry.kind == "step.begun":
            attempt: Row = {
                "run": entry.data["run"],
                "attempt": entry.data["attempt"],
                "title": entry.data.get("title"),
                "phase": entry.data.get("phase"),
                "started": entry.at,
                "ended": None,
                "seconds": None,
                "verdict": "running",
            }
            found[key] = attempt
            by_step.setdefault(entry.step, []).append(attempt)
        elif key in found:
            found[key].update(_outcome(entry))
    return by_step


def _outcome(entry: Entry) -> Row:
    data = entry.data
    if entry.kind == "step.done":
        evidence = data.get("evidence") or {}
        verdict = evidence.get("verdict", "pass")
        outcome = {"verdict": verdict, "evidence": evidence, "already": bool(data.get("already"))}
    else:
        summary = data.get("summary", "")
        evidence = data.get("evidence") or {"summary": summary, "verdict": data["verdict"]}
        outcome = {"verdict": data["verdict"], "evidence": evidence, "error": data.get("error"), "summary": summary}
    return {"ended": entry.at, "seconds": data.get("seconds"), **outcome}


def _close(attempts: Iterable[Row], end: Entry) -> None:
    """An attempt that an order ended writes no outcome: the way back, or the end of the run, ends it."""
    for attempt in attempts:
        if attempt["verdict"] == "running" and attempt["run"] == end.data["run"]:
            attempt.update(verdict="interrupted", ended=end.at, seconds=seconds_between(attempt["started"], end.at))


def _row(step_id: str, plan: Mapping[str, Any], attempts: Sequence[Row]) -> Row:
    last: Mapping[str, Any] = attempts[-1] if attempts else {}
    return {
        "id": step_id,
        "verdict": last.get("verdict", "not reached"),
        "started": last.get("started"),
        "seconds": last.get("seconds"),
        "evidence": last.get("evidence"),
        "title": last.get("title") or plan.get("title", step_id),
        "phase": last.get("phase") or plan.get("phase", "prepare"),
        "verb": plan.get("verb", step_id),
        "at": plan.get("at"),
        "gate": bool(plan.get("gate")),
        "commands": list(plan.get("commands", ())),
        "already": bool(last.get("already")),
        "error": last.get("error"),
        "attempts": [
            {name: a.get(name) for name in ("run", "attempt", "started", "ended", "seconds", "verdict", "summary")}
            for a in attempts
        ],
    }


def row_of(rows: Iterable[Mapping[str, Any]], step_id: str) -> Mapping[str, Any] | None:
    """The row of a step, if there is one."""
    return next((row for row in rows if row["id"] == step_id), None)
