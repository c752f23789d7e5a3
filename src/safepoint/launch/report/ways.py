"""Which way a launch is on, by its report: what of it was begun, what passed, what comes next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.launch.report.steps import row_of

Report = Mapping[str, Any]


def orphaned(report: Report) -> bool:
    """Whether the launch is under way and nobody carries it out, as far as whoever made the report has looked."""
    return not report.get("conducted", True) and report["launch"]["status"] in ("running", "waiting", "rolling back")


def done(report: Report, step_id: str) -> bool:
    """Whether a step passed."""
    row = row_of(report["steps"], step_id)
    return row is not None and row["verdict"] == "pass"


def begun(report: Report, step_id: str) -> bool:
    """Whether a step was begun, in whatever way it ended."""
    row = row_of(report["steps"], step_id)
    return row is not None and bool(row["attempts"])


def way_of(report: Report) -> list[str]:
    """The steps of the way that is being taken back, or forth again; empty where none is."""
    rollback = report["rollback"]
    if rollback is None or rollback["status"] != "running":
        return []
    return list(rollback["forth"] or rollback["steps"])


def whither(report: Report) -> str:
    """Where that way leads, in words."""
    return f"back to {report['launch']['new' if returning(report) else 'old']}"


def returning(report: Report) -> bool:
    """Whether a rollback was turned round."""
    return bool((report["rollback"] or {}).get("forth"))


def begun_of_way(report: Report) -> list[str]:
    """The steps that the rollback which is under way has begun, and its return: an earlier one says nothing of it."""
    rollback = report["rollback"]
    if not way_of(report):
        return []
    run = rollback["run"]
    rows = [row for row in report["steps"] if row["id"] in (*rollback["steps"], *rollback["forth"])]
    return [row["id"] for row in rows if any(attempt["run"] == run for attempt in row["attempts"])]


def swapped_to(report: Report) -> str | None:
    """The server that a rollback has taken the live database to, where it is another one."""
    back, forth = (row_of(report["steps"], step) or {} for step in ("back-swap", "forth-swap"))
    server = (back.get("evidence") or {}).get("server")
    returned = max((one["ended"] or "" for one in forth.get("attempts", ())), default="")
    swapped = max((one["ended"] or "" for one in back.get("attempts", ())), default="")
    return str(server) if server is not None and swapped > returned else None


def failed_last(report: Report) -> list[str]:
    """The step that failed, and of which the conductor could not even record what follows (its disk is full, it died in
    that instant): it is run again.
    """
    tried = [row for row in report["steps"] if row["attempts"]]
    if report["launch"]["status"] == "rolling back":
        way = begun_of_way(report)
        tried = [row for row in tried if row["id"] in way]
    return [tried[-1]["title"]] if tried and tried[-1]["verdict"] == "fail" else []


def was_closed(report: Report) -> bool:
    """Whether the site was closed in this try."""
    closing = row_of(report["steps"], "stop-traffic")
    since = closing["attempts"][0]["started"] if closing is not None and closing["attempts"] else None
    closed = [span["from"] for span in report["site"] if span["open"] == "closed"]
    return bool(closed) and (since is None or closed[-1] >= since)


def counted(report: Report) -> dict[str, Any]:
    """How many steps passed (`done`) of how many (`steps`), `of` which way: of one that was left none is to come."""
    way, rows, status = way_of(report), list(report["steps"]), report["launch"]["status"]
    if way:
        tried = [step for step in begun_of_way(report) if step in way]
        passed = sum(row["id"] in tried and _passed(row) for row in rows)
        return {"done": passed, "steps": len(way), "of": f" of the way {whither(report)}"}
    if status == "launched":  # also after a rollback that was turned round
        rows = [row for row in rows if row["phase"] != "rollback"]
    if status in ("aborted", "rolled back"):
        rows = [row for row in rows if row["verdict"] != "not reached"]
    return {"done": sum(map(_passed, rows)), "steps": len(rows), "of": ""}


def _passed(row: Mapping[str, Any]) -> bool:
    """Also one in doubt, which a person has said go to."""
    return row["verdict"] == "pass" or (row["verdict"] == "inconclusive" and row["decided"] is not None)


def upcoming(report: Report) -> Mapping[str, Any] | None:
    """The next step of the plan that has not begun; None when there is none, or when the way back was taken.

    Where the launch waits for no moment of its timetable (`--now`), it has none: it comes at once.
    """
    if report["launch"]["status"] in ("launched", "aborted", "rolled back"):
        return None
    steps = [row for row in report["steps"] if row["verdict"] == "not reached"]
    if report["launch"]["status"] == "rolling back":
        left = [one for one in way_of(report) if one not in begun_of_way(report)]
        steps = [row for one in left if (row := row_of(report["steps"], one)) is not None]
    if not steps:
        return None
    return {**steps[0], "at": None} if report["launch"].get("hurry") else steps[0]
