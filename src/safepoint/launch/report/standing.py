"""Where a launch stands, in the words of a person at 3 a.m.: what is the state, who is let in, what is safe, what next.

Works on the report's data alone, so that the page, `safepoint status` and the end of a launch say the same. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any
from zoneinfo import ZoneInfo

from safepoint.config.durations import format_duration
from safepoint.launch.report.steps import row_of
from safepoint.launch.report.ways import (
    Report,
    begun,
    begun_of_way,
    done,
    failed_last,
    orphaned,
    returning,
    swapped_to,
    upcoming,
    was_closed,
    way_of,
    whither,
)
from safepoint.launch.typed import option, typed_in
from safepoint.launch.undo import AHEAD, cannot_return

TONES = {"launched": "good", "failed": "bad", "aborted": "warn", "rolled back": "warn", "waiting": "ask"}

_CLOSE = "rollback --stop-first"
_ON = "launch, where it was"
_ANEW = "launch --again"
_STILL_OPEN = "return, while the site is open"
MEANINGS = {
    "go": "say yes: go on with this step",
    "retry": "try this step again",
    "abort": "stop the launch and take the way back to {old}",
    "rollback": "take the way back to {old}; what was written on {new} is carried back or listed",
    _CLOSE: "close the site at once, and carry what was written while it is closed",
    "return": "turn round: {new} and its database again, with all that was written there",
    _STILL_OPEN: "end the rollback: {new} was never closed",
    "hold": "stop before the next step and wait for a person",
    "launch": "carry it out",
    _ON: "go on where it was",
    _ANEW: "begin it anew from its first step",
    "retire --now": "finish the retirement that was begun",
    "watch": "look at the checkpoints again and again; nothing is changed",
    "report": "write the report",
}


def standing(report: Report) -> dict[str, Any]:
    """The state in sentences: `headline`, `tone` (good, bad, warn, ask, busy), `open`, `safe`, `next`, `commands`.

    Args:
        report: as `model.present` gives it.
    """
    launch = report["launch"]
    found = {
        "headline": _headline(report),
        "tone": "bad" if orphaned(report) else TONES.get(launch["status"], "busy"),
        "open": _open(report),
        "safe": _safe(report),
        "next": _next_of_orphan(report) if orphaned(report) else _next(report),
        "commands": [
            {"command": _command(report, name), "means": MEANINGS[_meant(report, name)].format(**launch)}
            for name in _choices(report)
        ],
    }
    return dict(typed_in(found, str(launch["plan_file"])))


def clock(report: Report, at: str | None, *, date: bool = False) -> str:
    """A recorded time as the clock on the wall of the plan's time zone shows it."""
    if at is None:
        return "?"
    local = datetime.fromisoformat(at).astimezone(ZoneInfo(report["launch"]["timezone"]))
    return f"{local:%Y-%m-%d %H:%M:%S}" if date else f"{local:%H:%M:%S}"


def _headline(report: Report) -> str:
    launch = report["launch"]
    app, old, new, status = launch["application"], launch["old"], launch["new"], launch["status"]
    sentences = {
        "not begun": f"The launch of {app} {new} has not begun.",
        "running": f"The launch of {app} {new} is under way.",
        "rolling back": f"{app} is on its way {whither(report)}.",
        "waiting": f"The launch of {app} {new} waits for a person.",
        "launched": f"{app} {new} is launched.",
        "failed": f"The launch of {app} {new} failed; {old} was not touched.",
        "aborted": f"The launch of {app} {new} was aborted.",
        "rolled back": f"{app} was rolled back to {old}.",
    }
    if orphaned(report):
        way = f"{app} on its way {whither(report)}" if way_of(report) else f"the launch of {app} {new}"
        return f"Nobody conducts {way}: its conductor has ended."
    if status == "waiting" and way_of(report):
        return f"{app} waits for a person on its way {whither(report)}."
    if status == "failed" and done(report, "stop-traffic"):
        return f"The launch of {app} {new} failed."
    return sentences.get(status, f"The launch of {app} {new}: {status}.")


def _open(report: Report) -> str:
    launch, spans = report["launch"], report["site"]
    if not spans:
        return f"{launch['old']} serves everyone."
    since = clock(report, spans[-1]["from"])
    return {
        "old": f"{launch['old']} serves everyone{'' if len(spans) == 1 else f' since {since}'}.",
        "closed": f"Nobody: the site has been closed since {since}.",
        "canary": f"{launch['new']} serves the canary's clients since {since}; not yet everyone.",
        "new": f"{launch['new']} serves everyone since {since}.",
    }[spans[-1]["open"]]


def _safe(report: Report) -> str:
    launch = report["launch"]
    rollback = report["rollback"]
    if rollback is not None and rollback["status"] == "rolled back":
        return _safe_after_rollback(report, rollback)
    if rollback is not None and rollback["status"] == "aborted":
        return f"The database is as it was: nothing of {launch['new']} is left in it." + _snapshots(report)
    if report["retired"]:
        return "There is no way back any more; the snapshots remain." + _snapshots(report)
    if "back-swap" in begun_of_way(report):
        return _safe_while_swapped(report)
    if done(report, "twin"):
        twin = row_of(report["steps"], "twin")
        at = clock(report, twin["attempts"][-1]["ended"] if twin else None)
        since = _captured(report) if done(report, "arm") else ""
        return f"The safe point of {at} stands: a rollback leads back to exactly that.{since}" + _snapshots(report)
    if report["site"] and report["site"][-1]["open"] == "closed":
        return "The database is unchanged; an abort opens the site again as it was." + _snapshots(report)
    return f"Nothing of the live system has been touched; {launch['old']} runs as before." + _snapshots(report)


def _safe_while_swapped(report: Report) -> str:
    """On a way back, from the swap on: another database has the live name, or is about to have it."""
    launch, tried = report["launch"], begun_of_way(report)
    if not done(report, "forth-swap" if "forth-swap" in tried else "back-swap"):
        text = "The twin of the safe point and the migrated database are both whole; which of them has the live name "
        return text + "is being changed." + _snapshots(report)
    if "forth-swap" in tried:
        return f"The migrated database has its place again, with all that {launch['new']} wrote." + _snapshots(report)
    carried = f" with {report['rollback']['carried']} transactions of {launch['new']} carried into it"
    text = f"The database is the twin of the safe point,{carried}; the migrated one is kept whole beside it."
    return text + _snapshots(report)


def _captured(report: Report) -> str:
    armed: Mapping[str, Any] = (row_of(report["steps"], "arm") or {}).get("evidence") or {}
    if armed.get("mode") == "none":
        return ""
    but = ", but not all of it: see the step `arm` in `safepoint report`" if armed.get("promises") else ""
    return f" What {report['launch']['new']} has written since is captured{but}."


def _safe_after_rollback(report: Report, rollback: Mapping[str, Any]) -> str:
    listed, carried = rollback["listed"], rollback["carried"]
    text = "The database is the twin of the safe point" + (" with what was carried back. " if carried else ". ")
    server = swapped_to(report)
    text += f"It is on {server} now. " if server else ""
    text += f"The migrated one is kept under another name. {carried} "
    text += f"transactions written on {report['launch']['new']} were carried back, {listed} were not"
    return text + (f": {PurePath(rollback['file']).name} says what became of each change." if rollback["file"] else ".")


def _snapshots(report: Report) -> str:
    rows = report.get("history", report["steps"])  # what an earlier run of this launch has proven is there still
    proven = [row["id"] for row in rows if row["verb"] == "proof" and row["verdict"] == "pass"]
    stored = [row["id"] for row in rows if row["verb"] == "store" and row["verdict"] == "pass"]
    if not proven:
        return " No snapshot of this launch is proven yet."
    plural = "snapshot is" if len(proven) == 1 else "snapshots are"
    return f" {len(proven)} {plural} proven by restoring, {len(stored)} stored and read back."


def _next(report: Report) -> str:
    launch, question = report["launch"], report["question"]
    if question is not None:
        commands = " or ".join(f"`{_command(report, name)}`" for name in question["choices"])
        return f"Answer: {question['question'].rstrip('.')}. Type {commands} in any terminal."
    status = launch["status"]
    if report.get("retiring"):
        return (
            f"`{_command(report, 'retire --now')}` finishes its retirement, which was begun and has not ended: what is "
            "left of the twin takes room, and what is left of the capture lets the server keep its whole log."
        )
    if status == "launched" and report["retired"]:
        return f"{_left_behind(report)}Nothing: the launch is retired, and its twin and capture are gone."
    if status == "launched":
        return (
            f"{_left_behind(report)}Watch it (`{_command(report, 'watch')}`). "
            f"Until the way back is retired, `{_command(report, 'rollback')}` leads back to {launch['old']}; "
            f"keep `{_command(report, 'follow')}` running until then, so that the server need not keep its log."
        )
    if status == "failed":
        return f"{_remedy(report)} Then `{_command(report, 'launch')}` goes on."
    if status in ("aborted", "rolled back"):
        told = _told(report["rollback"] or {})
        again = f"`{_command(report, _ANEW)}`" if status == "aborted" else "launch again with a new date or version"
        server = swapped_to(report)
        if server is not None:
            told += f"Make it last: lead whatever else uses the database to {server} (backups, jobs). "
            again += f" and {server} in [database]; `{_command(report, 'retire')}` first"
        recovered = f"See that {launch['old']} recovers (`{_command(report, 'watch')}`). " * was_closed(report)
        why = "Mend what it was ordered for" if (report["rollback"] or {}).get("by") else "Find out why"
        return f"{told}{recovered}{why} ({launch['reason'] or 'no reason was given'}), then {again}."
    running = [row for row in report["steps"] if row["verdict"] == "running"]
    if not running and (failed := failed_last(report)):  # it is not the next step that follows
        return (
            f"{failed[-1]}: failed. What the plan says for that follows in a moment (the way back, or a question); "
            "PostgreSQL may be waited for first."
        )
    text = f"Now: {_sentence(running[-1]['title'])} Then: " if running else ""
    return text + _upcoming(report)


def _next_of_orphan(report: Report) -> str:
    """What `_next` says is for whoever conducts: here nothing runs, and nobody takes an answer."""
    on, question = f"`{_command(report, 'launch')}` goes on where it was", report["question"]
    if question is not None:
        answers = " or ".join(f"`{_command(report, name)}`" for name in question["choices"])
        return f"{on}, and waits there for {answers}: {question['question'].rstrip('.')}."
    broken_off = [row["title"] for row in report["steps"] if row["verdict"] == "running"] or failed_last(report)
    return f"{on}: {_sentence(broken_off[-1]) if broken_off else _upcoming(report)}"


def _left_behind(report: Report) -> str:
    """What a rollback that was turned round left in the twin; empty where nothing was."""
    found = (row_of(report["steps"], "forth-between") or {}).get("evidence") or {}
    if found.get("transactions", 0) == 0:  # None: nobody knows what was written, which has to be said too
        return ""
    return f"Enter again what {report['launch']['old']} wrote before the return: {found['summary']}. "


def _told(rollback: Mapping[str, Any]) -> str:
    """Whom to tell what; empty where nobody lost anything."""
    affected = rollback.get("affected")
    if affected is not None and affected["users"]:
        users = "1 user who is" if affected["users"] == 1 else f"{affected['users']} users who are"
        unknown = affected["unknown"]
        nobody = f"; {unknown} {'row leads' if unknown == 1 else 'rows lead'} to no user" if unknown else ""
        return f"Tell the {users} affected: {affected['page']} says what, with a text for each{nobody}. "
    if affected is not None and affected["unknown"]:
        lost = f"what was lost or put away and leads to no user ({affected['unknown']})"
        return f"Find out who changed {lost}: see {affected['page']}. "
    if affected is not None:
        return f"Nobody is known to be affected, but not all can be known: see {affected['page']}. " * bool(
            affected["notes"]
        )
    return "Tell the users whose entries are listed. " if rollback.get("listed") else ""


def _remedy(report: Report) -> str:
    for row in reversed(report["steps"]):
        if row["verdict"] == "fail":
            error = row["error"] or {}
            return str(error.get("remedy") or f"Remove the cause: {error.get('message') or _summary(row)}")
    return "Remove the cause."


def _summary(row: Mapping[str, Any]) -> str:
    return str((row["evidence"] or {}).get("summary", "see the ledger"))


def _upcoming(report: Report) -> str:
    step = upcoming(report)
    if step is None:
        return "nothing more." if any(row["verdict"] == "running" for row in report["steps"]) else "Nothing is left."
    at = f" at {clock(report, step['at'], date=True)[:16]}" if step["at"] else ""
    return _sentence(f"{step['title']}{at}")


def _sentence(title: str) -> str:
    """A step's title as one; a gate's is a question."""
    return title if title.endswith("?") else f"{title}."


def _choices(report: Report) -> list[str]:
    if orphaned(report):  # nothing is there that could be held
        return ["launch", *(name for name in _choices({**report, "conducted": True}) if name != "hold")]
    status, question = report["launch"]["status"], report["question"]
    if question is not None:
        return list(question["choices"])
    if status in ("not begun", "failed"):
        return ["launch"]
    if status == "aborted":
        return [_ANEW, "watch", "report"]
    if report.get("retiring"):
        return ["retire --now", "watch", "report"]
    if status == "rolled back":
        return ["watch", "report"]
    if status == "launched":
        return ["watch", "report"] if report["retired"] else ["rollback", "watch", "report"]
    if status == "rolling back":
        ahead = row_of(report["steps"], AHEAD)
        if ahead is not None and ahead["verdict"] == "running":
            return [_CLOSE, "return"]
        return ["return"] if _may_return(report) else []
    return ["hold", "rollback" if begun(report, "migrate") else "abort"]


def _may_return(report: Report) -> bool:
    """Whether the way back that is being taken can be turned round."""
    way = way_of(report)
    return bool(way) and not returning(report) and cannot_return(way, begun_of_way(report)) is None


def _meant(report: Report, name: str) -> str:
    """The key of what a choice means where the launch stands."""
    if name == "launch" and orphaned(report):
        return _ON
    return _STILL_OPEN if name == "return" and "back-stop-traffic" not in begun_of_way(report) else name


def _command(report: Report, name: str) -> str:
    """What to type. The plan file is named where it is not the one that the command takes by itself."""
    return f"safepoint {name}" + option(str(report["launch"]["plan_file"]))


def span(seconds: float | None) -> str:
    """Seconds for a person; a dash where there are none."""
    return "–" if seconds is None else format_duration(seconds)
