"""The report as data, built from the ledger alone. Pure; what it answers is JSON-safe and holds no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safepoint.launch.begin import no_way_back
from safepoint.launch.ledger import GENESIS, Entry
from safepoint.launch.report.standing import standing
from safepoint.launch.report.steps import of_newest_begin, open_question, planned, row_of, step_rows
from safepoint.launch.report.times import downtime, site, window
from safepoint.launch.typed import typed_in

Report = dict[str, Any]


def build(entries: Sequence[Entry], extra: Mapping[str, Any] | None = None, *, plan_file: str | None = None) -> Report:
    """Build the report from entries that `ledger.read` has checked; `extra` adds what the ledger cannot know.

    All times are ISO 8601 in UTC, all spans seconds; what is not known (yet) is None. Of `extra`, `writers`
    (`acknowledged`, `failed_requests`, `present_after`) has its place in the report; other keys are added as they are.

    Args:
        plan_file: as it is named now; else it is named as the launch began.
    """
    rows = step_rows(entries)
    report: Report = {
        "launch": _launch(entries),
        "steps": rows,
        "rollback": _rollback(entries, rows),
        "writers": None,
        "window": window(entries),
        "forecast": _forecast(rows),
        "site": site(entries, planned(entries)),
        "gates": [_gate(row) for row in rows if row["gate"]],
        "checkpoints": _checkpoints(rows),
        "orders": [{"at": e.at, "step": e.step, **e.data} for e in entries if e.kind == "order"],
        "conductors": [{"at": e.at, "kind": e.kind, **e.data} for e in entries if e.kind in ("run", "resumed")],
        "question": open_question(entries),
        "retired": no_way_back(entries),
        "retiring": no_way_back(entries) and not any(entry.kind == "retired" for entry in entries),
        "ledger": {
            "entries": len(entries),
            "head": entries[-1].hash if entries else GENESIS,
            "verified": True,
        },
        **(extra or {}),
    }
    if plan_file is not None:
        report["launch"]["plan_file"] = plan_file
    report["standing"] = standing(present(report, entries))
    return dict(typed_in(report, str(report["launch"]["plan_file"])))


def present(report: Report, entries: Sequence[Entry]) -> Report:
    """The report as far as it is about now: steps and rollback of the newest begin. `history` has all steps."""
    now = of_newest_begin(entries)
    if now is entries:
        return {**report, "history": report["steps"]}
    rows = step_rows(now)
    return {**report, "steps": rows, "rollback": _rollback(now, rows), "history": report["steps"]}


def _launch(entries: Sequence[Entry]) -> dict[str, Any]:
    first = next((e for e in entries if e.kind == "launch"), None)
    data: Mapping[str, Any] = first.data if first else {}
    plan: Mapping[str, Any] = data.get("plan", {})
    end = next((e for e in reversed(entries) if e.kind in ("end", "run")), None)
    ended = end if end is not None and end.kind == "end" else None
    conducted = [e for e in entries if e.kind in ("run", "resumed")]
    return {
        "id": plan.get("launch_id", ""),
        "status": _status(entries, ended),
        "reason": ended.data.get("reason", "") if ended else "",
        "application": plan.get("application", ""),
        "old": plan.get("old", ""),
        "new": plan.get("new", ""),
        "timezone": plan.get("timezone", "UTC"),
        "hurry": conducted[-1].data.get("hurry", plan.get("hurry", False)) if conducted else plan.get("hurry", False),
        "started": first.at if first else None,
        "ended": ended.at if ended else None,
        "latest": entries[-1].at if entries else None,
        "by": data.get("by", ""),
        "machine": data.get("machine", ""),
        "safepoint": data.get("safepoint", ""),
        "plan_file": data.get("plan_file", ""),
    }


def _status(entries: Sequence[Entry], ended: Entry | None) -> str:
    """The word for where the launch is. The last four are final: `launched`, `failed`, `aborted`, `rolled back`."""
    if ended is not None:
        return str(ended.data["status"])
    runs = [e for e in entries if e.kind == "run"]
    if not runs:
        return "not begun"
    if open_question(entries) is not None:
        return "waiting"
    way_back = any(e.kind == "wayback" and e.seq > runs[-1].seq for e in entries)
    return "rolling back" if way_back or runs[-1].data["course"] == "rollback" else "running"


def _rollback(entries: Sequence[Entry], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    way = next((e for e in reversed(entries) if e.kind == "wayback"), None)
    if way is None:
        return None
    run = way.data["run"]
    end = next((e for e in entries if e.kind == "end" and e.data["run"] == run and e.seq > way.seq), None)
    spans = downtime(entries, way, site(entries, planned(entries)))
    listing = row_of(rows, "back-list")
    evidence: Mapping[str, Any] = (listing or {}).get("evidence") or {}
    carrying: Mapping[str, Any] = (row_of(rows, "back-carry") or {}).get("evidence") or {}
    carried = _count(carrying.get("carried", evidence.get("carried", 0)))
    # The list knows more than what was carried by: of a capture that was lost it has what stands in the tables.
    known = evidence if "carried" in evidence and _count(evidence["carried"]) == carried else carrying
    return {
        "status": end.data["status"] if end else "running",
        "reason": way.data.get("reason", ""),
        "by": way.data.get("by"),
        "run": run,
        "started": spans["started"],
        "ended": spans["ended"],
        "downtime_seconds": spans["seconds"],
        "carried": carried,
        "listed": _count(known.get("listed", 0)),
        "not_carried_because": carrying.get("reason"),
        "transactions": evidence.get("transactions"),
        "rows": evidence.get("rows"),
        "housekeeping_rows": evidence.get("housekeeping_rows"),
        "users": evidence.get("users"),
        "user_count": evidence.get("user_count", _count(evidence.get("users"))),
        "file": _csv(evidence),
        "missing": [] if evidence.get("complete", True) else list(evidence.get("notes") or ()),
        "affected": _affected((row_of(rows, "back-tell") or {}).get("evidence") or {}),
        "steps": [step["id"] for step in way.data["steps"]],
        "forth": _turned_round(entries, run),
    }


def _turned_round(entries: Sequence[Entry], run: int) -> list[str]:
    """The steps by which a rollback was turned round; empty where it was not."""
    forth = next((e for e in entries if e.kind == "wayforth" and e.data["run"] == run), None)
    return [] if forth is None else [step["id"] for step in forth.data["steps"]]


def _forecast(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the launch's own rehearsal foresaw for `migrate`, and what it took then; None where nothing was foreseen.

    `steps` has the same for each step of the window of which it knew a time, in their order.
    """
    evidence = (row_of(rows, "rehearse") or {}).get("evidence") or {}
    foreseen = evidence.get("forecast")
    if not foreseen:
        return None
    took = _took(rows, "migrate")
    off = None if took is None or not took else round(foreseen["expected"] / took - 1, 3)
    held = None if took is None else foreseen["low"] <= took <= foreseen["high"]
    known = {**evidence.get("steps", {}), "migrate": foreseen["expected"]}
    steps = [
        {"id": row["id"], "title": row["title"], "foreseen": known[row["id"]], "took": _took(rows, row["id"])}
        for row in rows
        if row["id"] in known
    ]
    return {**foreseen, "took": took, "off_by": off, "held": held, "steps": steps}


def _took(rows: Sequence[Mapping[str, Any]], step: str) -> float | None:
    """Seconds of a step that ended well."""
    done = row_of(rows, step)
    return done["seconds"] if done is not None and done["verdict"] == "pass" else None


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list | dict) else value


def _affected(evidence: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many users have to be told and what became of their changes (housekeeping apart), where that stands, and what
    nobody can know; None before it is known.
    """
    names = ("users", "whole", "unknown", "carried", "part", "stashed", "lost", "page", "letters")
    notes = {"notes": list(evidence.get("notes") or ())}
    return {**{name: evidence[name] for name in names}, **notes} if "page" in evidence else None


def _csv(evidence: Mapping[str, Any]) -> str | None:
    paths = (value for name, value in evidence.items() if name not in ("summary", "verdict"))
    return next((value for value in paths if isinstance(value, str) and value.endswith(".csv")), None)


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    verdict = {"pass": "go", "fail": "no-go"}.get(row["verdict"], row["verdict"])
    decided = row["decided"]
    if decided is not None and verdict == "inconclusive":
        verdict = "go"
    return {
        "id": row["id"],
        "title": row["title"],
        "verdict": verdict,
        "by": decided["by"] if decided else ("rule" if verdict in ("go", "no-go") else None),
        "at": decided["at"] if decided else (row["attempts"][-1]["ended"] if row["attempts"] else None),
        "summary": (row["evidence"] or {}).get("summary", ""),
    }


def _checkpoints(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The checkpoints as they were last looked at, by each of the steps that look at them."""
    return [
        {**checkpoint, "step": row["id"]}
        for row in rows
        for checkpoint in (row["evidence"] or {}).get("checkpoints", [])
        if isinstance(checkpoint, dict)
    ]
