"""How a launch begins or goes on: which plan is carried out, and what a finished launch answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from safepoint.config import Moment, PlanFile, load
from safepoint.errors import PlanFileError, Refused
from safepoint.launch.ledger import Entry, read
from safepoint.launch.plan import Plan, make_plan, refuse_past
from safepoint.launch.versions import refuse_newer
from safepoint.launch.whose import refuse_foreign

_AT = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)")


def launch_folder(plan_file: PlanFile) -> Path:
    """Where a launch keeps its ledger and its engine's state."""
    return plan_file.state / "launches" / plan_file.launch_id


def entries_of(plan_file: PlanFile) -> list[Entry]:
    """The ledger of the plan file's launch; empty when it has not begun.

    Raises:
        Refused: a launch of this id was begun by another plan file, for another database; or by a newer version.
    """
    entries = list(read(launch_folder(plan_file) / "ledger.jsonl"))
    refuse_newer(entries)
    refuse_foreign(plan_file, entries)
    return entries


def prepare_launch(path: Path, *, hurry: bool, at: str | None, again: bool = False) -> tuple[PlanFile, Plan]:
    """Load the plan file and decide which plan is carried out.

    A launch that was begun goes on with the plan it began with; the plan file may not say something else now.

    Args:
        again: one that was aborted begins anew.

    Raises:
        PlanFileError: the plan file or `at` is wrong.
        Refused: the launch is over, or its time is; or it has begun, and `at` says another time.
    """
    plan_file = load(path)
    if at is not None:
        plan_file = move(plan_file, at)
    plan = make_plan(plan_file, hurry=hurry)
    known = begun_plan(plan_file)
    if known is None:
        refuse_past(plan, datetime.now(UTC))
        return plan_file, plan
    refuse_over(plan_file, entries_of(plan_file), again=again)
    if at is not None:
        raise Refused(
            f"The launch {plan_file.launch_id} has begun: its timetable stands.",
            subject=plan_file.launch_id,
            found=f"--at {at!r}",
            remedy="Go on by that timetable with `safepoint launch`, or without waiting: `safepoint launch --now`.",
        )
    plan = Plan.from_json({**known.as_json(), "hurry": known.hurry or hurry})
    return plan_file, plan


def begun_plan(plan_file: PlanFile) -> Plan | None:
    """The plan that the launch began with, from its ledger; it waits for its moments as the present try was begun."""
    entries = entries_of(plan_file)
    entry = next((entry for entry in entries if entry.kind == "launch"), None)
    if entry is None:
        return None
    plan = entry.data["plan"]
    return Plan.from_json({**plan, "hurry": _hurried(entries, first=bool(plan.get("hurry", False)))})


def _hurried(entries: Sequence[Entry], *, first: bool) -> bool:
    """Whether the present try was begun so that it waits for no moment: what an aborted one did says nothing of it.

    Args:
        first: so the first try was.
    """
    aborted = [entry.seq for entry in entries if entry.kind == "end" and entry.data["status"] == "aborted"]
    if not aborted:
        return first
    begun = next((entry for entry in entries if entry.kind == "run" and entry.seq > aborted[-1]), None)
    return begun is not None and bool(begun.data.get("hurry", False))


def status_of(entries: Sequence[Entry]) -> str | None:
    """How the newest run ended: `launched`, `failed`, `aborted`, `rolled back`; None while it runs or before it."""
    runs = [entry.data["run"] for entry in entries if entry.kind == "run"]
    end = next((e for e in reversed(entries) if e.kind == "end" and runs and e.data["run"] == runs[-1]), None)
    return None if end is None else str(end.data["status"])


def no_way_back(entries: Sequence[Entry]) -> bool:
    """Whether the launch is retired, or its retirement has begun: its twin may be gone."""
    return any(entry.kind in ("retiring", "retired") for entry in entries)


def open_question(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """What the launch waits for a person to say: `question`, `choices`, `step`; None where it waits for nobody."""
    question: dict[str, Any] | None = None
    for entry in entries:
        if entry.kind == "ask":
            question = {**entry.data, "step": entry.step}
        elif entry.kind in ("step.begun", "decided", "end", "wayback") or (
            entry.kind == "order" and entry.data["fate"] == "taken" and entry.data["order"] != "hold"
        ):
            question = None
    return question


def refuse_over(plan_file: PlanFile, entries: Sequence[Entry], *, again: bool = False) -> None:
    """A launch that was launched or rolled back is not begun again under the same id, and one that was aborted only
    by whoever means it: the command of before stands one key away, and would close the site.

    Args:
        again: it is meant to begin anew.

    Raises:
        Refused: it is over.
    """
    status = status_of(entries)
    if status in ("launched", "rolled back"):
        raise Refused(
            f"The launch {plan_file.launch_id} is over: it was {status}.",
            subject=plan_file.launch_id,
            remedy="See `safepoint report`. A new launch needs another launch.date, version or launch.id.",
        )
    if status == "aborted" and not again:
        reason = next(str(entry.data["reason"]) for entry in reversed(entries) if entry.kind == "end")
        raise Refused(
            f"The launch {plan_file.launch_id} was aborted: {reason or 'no reason was given'}".rstrip(".") + ".",
            subject=plan_file.launch_id,
            remedy="Once its cause is removed, `safepoint launch --again` begins it anew from its first step, at once "
            "where its moments are over.",
        )


def refuse_taken_back(plan_file: PlanFile, entries: Sequence[Entry], word: str) -> None:
    """An order to take back a launch that is over, and of which nothing can be taken back, or not by that order.

    Raises:
        Refused: so it is.
    """
    status = status_of(entries)
    if word == "return":
        if status is not None:
            raise Refused(
                "No rollback is under way that could be turned round.",
                subject=plan_file.launch_id,
                remedy="See `safepoint status`.",
            )
        return
    if status in ("rolled back", "aborted"):  # another run would only hide why it was
        raise Refused(
            f"The launch {plan_file.launch_id} is over already: it was {status}.",
            subject=plan_file.launch_id,
            remedy="There is nothing to take back; see `safepoint report`.",
        )
    if no_way_back(entries):
        raise Refused(
            f"The launch {plan_file.launch_id} is retired: its twin and its capture are gone, and so is the way back.",
            subject=plan_file.launch_id,
            remedy="A snapshot can be restored: `safepoint backups`, then `safepoint restore ID --into NAME`.",
        )
    if status == "launched" and word == "abort":
        raise Refused(
            f"The launch {plan_file.launch_id} is done: it was launched.",
            subject=plan_file.launch_id,
            remedy="To bring the old release back now: `safepoint rollback`.",
        )


def last_reason(plan_file: PlanFile) -> str:
    """Why the newest run ended as it did; empty when all went well."""
    ends = [entry for entry in entries_of(plan_file) if entry.kind == "end"]
    return str(ends[-1].data["reason"]) if ends else ""


def no_go(plan_file: PlanFile) -> bool:
    """Whether the newest run ended because a gate or a check said no, and not by a person's order."""
    entries = entries_of(plan_file)
    begun = max((entry.seq for entry in entries if entry.kind == "run"), default=0)
    newest = [entry for entry in entries if entry.seq >= begun]
    failed = [entry.data for entry in newest if entry.kind == "step.failed"]
    if not failed or any(entry.kind == "wayback" and entry.data["by"] is not None for entry in newest):
        return False
    return "evidence" in failed[-1] or failed[-1].get("error", {}).get("error") == "Refused"


def move(plan_file: PlanFile, at: str) -> PlanFile:
    """The same plan with traffic stopping at another moment; all other moments keep their distance from it.

    The launch keeps the id that the plan file gives it: orders and `status` find it by the plan file alone.

    Raises:
        PlanFileError: `at` is no such moment.
    """
    stop = _stop_at(at, plan_file.launch.timezone)
    timetable, day = plan_file.timetable, plan_file.launch.date
    shift = stop - datetime.combine(day + timedelta(days=timetable.stop.days), timetable.stop.at)
    moved = {name: _shift(getattr(timetable, name), shift) for name in type(timetable).model_fields}
    # Days are counted from the launch day, which is the day of the stop.
    day_shift = moved["stop"].days
    moments = {name: str(Moment(moment.days - day_shift, moment.at)) for name, moment in moved.items()}
    data = json.loads(plan_file.model_dump_json())
    data["timetable"] = moments
    data["launch"]["date"] = stop.date().isoformat()
    data["launch"]["id"] = plan_file.launch_id
    return PlanFile.model_validate({**data, "path": plan_file.path}).read_as(plan_file.text)


def _stop_at(at: str, zone: ZoneInfo) -> datetime:
    match = _AT.fullmatch(at.strip())
    remedy = "Write it like `--at '2026-03-01 09:00'`; it is when traffic stops."
    if match is None:
        raise PlanFileError(
            f"--at {at!r} is not a moment.",
            subject="--at",
            expected="YYYY-MM-DD HH:MM, in the plan's time zone",
            found=at,
            remedy=remedy,
        )
    try:
        stop = datetime.fromisoformat(f"{match[1]} {match[2]}")
        Moment(0, stop.time()).on(stop.date(), zone)  # for its errors: a time that the clocks skip or repeat
    except ValueError as error:
        raise PlanFileError(f"--at {at!r} is not a moment: {error}.", subject="--at", found=at, remedy=remedy) from None
    return stop


def _shift(moment: Moment, shift: timedelta) -> Moment:
    base = datetime(2000, 6, 15)  # any day: only distances count
    moved = datetime.combine(base.date() + timedelta(days=moment.days), moment.at) + shift
    return Moment((moved.date() - base.date()).days, moved.time())
