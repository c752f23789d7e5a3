"""`safepoint watch`: the checkpoints of the release that people are on, again and again; nothing is conducted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.launch import PlanOption
from safepoint.cli.saying import echo
from safepoint.cli.standing_plan import standing_plan
from safepoint.errors import ExitCode, PlanFileError

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

    from safepoint.checkpoints.checkpoint import Checkpoint
    from safepoint.launch.watching import Seen


def watch(
    once: Annotated[bool, typer.Option("--once", help="One look, for cron or a monitoring system.")] = False,
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30m; watch.duration otherwise.")] = "",
    every: Annotated[str, typer.Option("--every", help="How often, such as 30s; watch.every otherwise.")] = "",
    plan: PlanOption = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="A line of JSON for each look.")] = False,
) -> None:
    """Look at the checkpoints of the release that people are on, after green or while a site recovers. Changes nothing.

    Ends with 1 where a checkpoint failed in some look, with 4 where one needs a person.
    """
    import time
    from datetime import UTC, datetime

    from safepoint.launch.watching import Watching

    plan_file = standing_plan(plan)
    seconds = 0.0 if once else _seconds("--for", duration, plan_file.watch.duration)
    pause = _seconds("--every", every, plan_file.watch.every)
    watching, end, verdicts = Watching(plan_file), time.monotonic() + seconds, set()
    while True:
        began = time.monotonic()
        seen = watching.now()
        verdicts.add(seen.verdict)
        now = datetime.now(UTC)
        read = echo(
            json.dumps({"at": now.isoformat(), **seen.as_json()})
            if json_
            else "\n".join(_lines(seen, now, plan_file.launch.timezone))
        )
        if began + pause > end or not read:
            break
        # From one look's begin to the next one's; Ctrl-C ends it, for nothing is under way.
        time.sleep(max(0.0, began + pause - time.monotonic()))
    if "fail" in verdicts:
        raise typer.Exit(int(ExitCode.FAILED))
    if "inconclusive" in verdicts:
        raise typer.Exit(int(ExitCode.NEEDS_PERSON))


def _seconds(option: str, text: str, default: timedelta) -> float:
    from safepoint.config import parse_duration

    try:
        return (parse_duration(text) if text else default).total_seconds()
    except ValueError as error:
        raise PlanFileError(f"{option}: {error}.", subject=option, remedy=f"Write it as {option} 10m.") from None


def _lines(seen: Seen, now: datetime, zone: ZoneInfo) -> list[str]:
    """One line where all is well; one more for each checkpoint that did not pass, and what to do about it."""
    passed = sum(point.verdict == "pass" for point in seen.checkpoints)
    people = "people" if seen.percent is None else f"{seen.percent} % of clients"
    who = f"{people} are on {seen.release}" if seen.release else "nobody is let in"
    lines = [f"{now.astimezone(zone):%H:%M:%S}  {who}: {passed} of {len(seen.checkpoints)} checkpoints pass"]
    for point in seen.checkpoints:
        if point.verdict != "pass":
            lines += _told(point)
    return lines


def _told(point: Checkpoint) -> list[str]:
    lines = [f"  {point.verdict.upper()}  {point.title}: {point.detail or point.value}"]
    return [*lines, f"        next: {point.remedy}"] if point.remedy else lines
