"""`safepoint status`: where a launch is, who conducts it, what waits for a person, what one can do now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safepoint.cli.saying import echo
from safepoint.cli.standing_plan import standing_plan

if TYPE_CHECKING:
    from datetime import datetime

    from safepoint.config import PlanFile
    from safepoint.errors import Refused
    from safepoint.launch.ledger import Entry
    from safepoint.launch.lock import Holder
    from safepoint.launch.plan import Plan


def status(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Say where the launch is and what can be done now."""
    import json
    from datetime import UTC, datetime

    from safepoint.launch.lock import holder

    plan_file = standing_plan(plan)
    conductor = holder(plan_file.conductor_lock)
    answer = standing_of(plan_file, plan, conductor, datetime.now(UTC), _heard(plan_file, conductor))
    if json_:
        echo(json.dumps(answer))
    else:
        _show(answer)


def standing_of(
    plan_file: PlanFile, path: Path, conductor: Holder | None, now: datetime, heard: Refused | str | None = None
) -> dict[str, Any]:
    """The answer of `status`; `conductor` is whoever holds the lock. Before the launch begins, the plan answers.

    Args:
        heard: of the server, as `_heard` has it.
    """
    from dataclasses import asdict

    from safepoint.launch.begin import entries_of, launch_folder
    from safepoint.launch.edited import edited
    from safepoint.launch.plan import make_plan
    from safepoint.launch.report.model import build, present
    from safepoint.launch.report.standing import standing
    from safepoint.launch.report.ways import counted, upcoming

    entries = entries_of(plan_file)
    report = present(build(entries, plan_file=str(path)), entries)
    the_plan = None if entries else make_plan(plan_file)
    if the_plan is not None:
        made = the_plan.as_json()
        report["launch"].update({"id": made["launch_id"], **{k: made[k] for k in ("application", "old", "new")}})
        report["launch"]["timezone"] = made["timezone"]
        report["steps"] = report["history"] = [_not_reached(step) for step in made["steps"]]
    mine = conductor if conductor is not None and conductor.launch == report["launch"]["id"] else None
    told = standing({**report, "conducted": mine is not None})
    if the_plan is not None:
        told = _beside_another(_late(told, the_plan, now), plan_file)
    elsewhere = None if isinstance(heard, str) else heard
    if elsewhere is not None:
        told = _elsewhere(told, elsewhere)
    elif isinstance(heard, str) and not entries:
        told = _unasked(told, heard)
    elif conductor is None and (said := _replaced(plan_file, entries)) is not None:
        told = {**told, "tone": "warn", "safe": f"{said} When the launch ended: {told['safe']}"}
    step = None if elsewhere else upcoming(report)
    since = edited(plan_file, launch_folder(plan_file)) if mine or plan_file.fault else None
    return {
        "launch": report["launch"],
        "standing": told,
        "elsewhere": elsewhere.as_json() if elsewhere else None,
        "conductor": {**asdict(mine), "stands_still": mine.stands_still} if mine else None,
        "edited": str(since) if since else None,
        "question": report["question"],
        "running": [
            {**_short(row, now), "waits": _waits(entries, row, now)}
            for row in report["steps"]
            if row["verdict"] == "running" and mine
        ],
        "next": None if step is None else {**_short(step, now), "at": step["at"], "in_seconds": _until(step, now)},
        **counted(report),
        "ledger": report["ledger"],
    }


def _heard(plan_file: PlanFile, conductor: Holder | None) -> Refused | str | None:
    """What the server says of another state folder that has this launch; where it does not answer, why.

    Not asked where this folder's conductor is alive, for it holds the guard; where the launch is over for good; and
    where another launch of this folder has the site.
    """
    from safepoint.errors import Refused
    from safepoint.launch.begin import entries_of, no_way_back, status_of
    from safepoint.launch.elsewhere import refuse_elsewhere
    from safepoint.launch.others import other_launch

    entries = entries_of(plan_file)
    if conductor is not None or no_way_back(entries) or status_of(entries) == "rolled back":
        return None
    if not entries and other_launch(plan_file) is not None:
        return None
    try:
        return refuse_elsewhere(plan_file, entries)
    except Refused as elsewhere:
        return elsewhere


def _replaced(plan_file: PlanFile, entries: list[Entry]) -> str | None:
    """Of a launch that is over: whether another database is live than it left, which no ledger says."""
    from safepoint.launch.begin import status_of
    from safepoint.launch.replaced import replaced

    over = entries and status_of(entries) in ("launched", "aborted", "rolled back")
    return replaced(plan_file, entries) if over else None


def _elsewhere(told: dict[str, Any], found: Refused) -> dict[str, Any]:
    """Another state folder has the launch: what this one has of it says nothing of the site."""
    return {
        **told,
        "tone": "bad",
        "headline": found.message,
        "open": "Not known here: `safepoint status` says it where the launch is conducted.",
        "safe": f"Not known here. The server has {found.found}.",
        "next": str(found.remedy),
        "commands": [],
    }


def _unasked(told: dict[str, Any], why: str) -> dict[str, Any]:
    """Nothing is recorded here, and nobody could say whether another state folder has the launch."""
    return {
        **told,
        "tone": "warn",
        "open": f"As far as this state folder knows: {told['open']}",
        "safe": "Not known: the launch may have been begun from another state folder, and the server could not be "
        f"asked. {why}",
    }


def _not_reached(step: dict[str, Any]) -> dict[str, Any]:
    return {
        **step,
        "verdict": "not reached",
        "started": None,
        "seconds": None,
        "evidence": None,
        "decided": None,
        "attempts": [],
        "error": None,
    }


def _late(told: dict[str, Any], the_plan: Plan, now: datetime) -> dict[str, Any]:
    """A launch that has not begun, and would be refused now: its timetable's first moment is over."""
    from safepoint.errors import Refused
    from safepoint.launch.plan import refuse_past

    try:
        refuse_past(the_plan, now)
    except Refused as late:
        begin = told["commands"][0]
        at_once = {"command": begin["command"].replace(" launch", " launch --now", 1), "means": "carry it out at once"}
        return {**told, "tone": "warn", "next": f"{late.message} {late.remedy}", "commands": [at_once]}
    return told


def _beside_another(told: dict[str, Any], plan_file: PlanFile) -> dict[str, Any]:
    """A launch that has not begun, while another one has the site: who is let in, and what is safe, is for that one to
    say.
    """
    from safepoint.launch.others import other_launch

    other = other_launch(plan_file)
    if other is None:
        return told
    return {
        **told,
        "tone": "warn",
        "headline": f"{told['headline']} Another one has: {other}.",
        "open": f"As {other.launch_id} has it.",
        "safe": f"This launch has touched nothing; what is safe, {other.launch_id} says.",
        "next": f"{other.remedy(plan_file)} {told['next']}",
    }


def _short(row: dict[str, Any] | Any, now: datetime) -> dict[str, Any]:
    from datetime import datetime

    started = row["started"]
    seconds = (now - datetime.fromisoformat(started)).total_seconds() if started else None
    return {"id": row["id"], "title": row["title"], "phase": row["phase"], "seconds": seconds}


def _waits(entries: list[Entry], row: dict[str, Any], now: datetime) -> str | None:
    """What a running step has said that it waits for, as long as it would wait."""
    said = [entry for entry in entries if entry.kind == "waits" and entry.step == row["id"]]
    if not said or (now - said[-1].when).total_seconds() > said[-1].data["seconds"]:
        return None
    return str(said[-1].data["for"])


def _until(step: Any, now: datetime) -> float | None:
    from datetime import datetime

    return None if not step["at"] else (datetime.fromisoformat(step["at"]) - now).total_seconds()


def _show(answer: dict[str, Any]) -> None:
    from rich.text import Text

    from safepoint.cli.tables import wrapped
    from safepoint.cli.terminal import Terminal
    from safepoint.config import format_duration

    console = Terminal(soft_wrap=True)
    width = min(console.size.width, 110)
    told, launch = answer["standing"], answer["launch"]
    style = {"good": "bold green", "bad": "bold red", "warn": "bold yellow", "ask": "bold magenta"}
    for line in wrapped(told["headline"], width):
        console.print(Text(line, style=style.get(told["tone"], "bold cyan")))
    known = ", as this state folder has it" if answer["elsewhere"] else ""
    passed = f"{answer['done']} of {answer['steps']} steps{answer['of']} passed{known}"
    facts = [("launch", f"{launch['id']}, {launch['status']}, {passed}")]
    conductor = answer["conductor"]
    if conductor is not None:
        who = f"{conductor['user']} on {conductor['machine']} (process {conductor['pid']}), {conductor['command']}"
        facts.append(("conductor", f"{who}; {conductor['stands_still']}" if conductor["stands_still"] else who))
    if answer["edited"]:
        facts.append(("plan file", answer["edited"]))
    facts += [
        (
            "now",
            f"{row['title']}, for {format_duration(max(0.0, row['seconds'] or 0.0))}"
            + (f": {row['waits']}" if row["waits"] else ""),
        )
        for row in answer["running"]
    ]
    facts += [("let in", told["open"]), ("safe", told["safe"]), ("next", told["next"])]
    if (step := answer["next"]) is not None and (step["in_seconds"] or 0) > 0:
        facts.append(("", f"that is in {format_duration(step['in_seconds'])}"))
    for name, text in facts:
        first, *rest = wrapped(text, width - 13) or [""]
        console.print(Text(f"  {name:<10} {first}"))
        for line in rest:
            console.print(Text(f"{'':13}{line}"))
    if told["commands"]:
        console.print(Text("\n  what you can do now"))
        longest = max(len(choice["command"]) for choice in told["commands"])
        for choice in told["commands"]:
            beside = 4 + longest + 2 + len(choice["means"]) <= width
            console.print(
                Text(f"    {choice['command']:<{longest}}  {choice['means']}" if beside else f"    {choice['command']}")
            )
            for line in [] if beside else wrapped(choice["means"], width - 8, indent="        "):
                console.print(Text(line))
