"""Retiring a launch at T+3: the twin and the capture are removed, and with them the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from safepoint.config import PlanFile, format_bytes, format_duration
from safepoint.errors import Refused
from safepoint.launch import remains
from safepoint.launch.begin import entries_of, launch_folder, status_of
from safepoint.launch.clocks import APART, clock_ahead
from safepoint.launch.ground import newest_fact
from safepoint.launch.guard import Guard
from safepoint.launch.kept_logs import FOLDER as LOGS
from safepoint.launch.kept_logs import keep_logs
from safepoint.launch.ledger import Entry, Ledger
from safepoint.launch.lock import ConductorLock
from safepoint.launch.plan import Plan, phase_starts
from safepoint.launch.wayback.pairs import level_pair, standing_pair
from safepoint.launch.whose import owner_of
from safepoint.person import person
from safepoint.postgres.target import target
from safepoint.wayback.capture import capture
from safepoint.wayback.fence import quiet
from safepoint.wayback.fence.login import drop_migration_login
from safepoint.wayback.names import kept_name
from safepoint.wayback.replay.stash_schema import drop_from_database
from safepoint.wayback.stash.stash import waiting
from safepoint.wayback.twin import feed, twin
from safepoint.wayback.twin.kept import kept_databases
from safepoint.wayback.twin.pair import Pair

# A launch that was carried out later than this by its own timetable has its T+3 later by as much.
_LATE = timedelta(hours=12)


def retire(plan_file: PlanFile, *, now: datetime | None = None, hurry: bool = False) -> dict[str, Any]:
    """Remove what stood by for the way back. May be run again.

    Args:
        hurry: also before its T+3.

    Raises:
        Refused: the launch is not over, or its T+3 has not come.
    """
    now = now or datetime.now(UTC)
    _refuse_early(plan_file, entries_of(plan_file), now, hurry=hurry)
    done: list[str] = []
    with (
        ConductorLock(plan_file.conductor_lock, plan_file.launch_id, "safepoint retire", plan_file.launch.timezone),
        _guarded(plan_file),
        Ledger(launch_folder(plan_file) / "ledger.jsonl") as ledger,
    ):
        _refuse_early(
            plan_file, ledger.entries, now, hurry=hurry
        )  # a rollback may have begun while we came to the lock
        recorded = newest_fact(ledger.entries, "capture")
        rolled_back = status_of(ledger.entries) == "rolled back"
        pair = standing_pair(plan_file, plan_file.launch_id, newest_fact(ledger.entries, "twin"))
        with pair.both() as (server, _):  # without an answer nothing is removed, and the way back stays
            for refuse in (remains.refuse_unexplained, remains.refuse_fenced):
                refuse(server, plan_file.database.name, plan_file.launch_id, ledger.entries)
        # From here on there is no way back, also where a kill comes in between.
        ledger.append("retiring", "retiring", {"by": person()})
        # A rollback to another server has left the migrated database here, under its other name.
        kept = kept_name(plan_file.database.name, plan_file.launch_id)
        database = pair.live.on(kept) if rolled_back and pair.apart else pair.live
        if recorded is not None and not rolled_back:
            facts = capture.CaptureFacts.from_json(dict(recorded))
            capture.disarm(database, facts)
            done.append(f"The capture is removed: {facts.parts}.")
        if not rolled_back and feed.end(database, plan_file.launch_id):
            done.append("The twin's feed, which a fault had left, is removed.")
        quiet.drop_quiet_slot(database, plan_file.launch_id, maintenance=plan_file.database.maintenance)
        drop_migration_login(
            database,
            plan_file.launch_id,
            plan_file.database.application_roles[0],
            maintenance=plan_file.database.maintenance,
        )
        done += _remove_twins(plan_file, pair, rolled_back)
        ours = [plan_file.launch_id, *_earlier(plan_file, ledger.entries)]
        done += [
            f"The stash's schema {name} is removed; its files stay."
            for name in drop_from_database(pair.swapped_in if rolled_back else pair.live, ours)
        ]
        done += [
            f"{name} ({format_bytes(size)}) stays: what a rollback swapped out, yours to drop when nobody needs it."
            for name, size in kept_databases(pair.live, maintenance=plan_file.database.maintenance).items()
        ]
        folder = launch_folder(plan_file)
        logs = keep_logs(plan_file, folder, ledger.entries)
        if logs:
            done.append(f"What was logged since the site was closed is in {folder / LOGS}: {'; '.join(logs)}.")
        ledger.append("retired", "retired", {"done": done})
    return {"launch": plan_file.launch_id, "done": done}


def _earlier(plan_file: PlanFile, entries: Sequence[Entry]) -> list[str]:
    """The launches whose stashes this one took up; and those that wait again since it was rolled back, too: nobody can
    retire them any more, for the plan file has gone on to this one."""
    stashes = waiting(plan_file.state, plan_file.launch_id, owner_of(plan_file))
    return [one.launch_id for one in stashes if one.taken_by is not None or one.made_at < entries[0].when]


def _remove_twins(plan_file: PlanFile, pair: Pair, rolled_back: bool) -> list[str]:
    """The twin that stands by; and what a level one that was given up left on another server, which was away then."""
    name, done = pair.twin.dbname, []
    given_up = level_pair(plan_file, plan_file.launch_id)
    for one in (pair, *([given_up] if given_up.apart and not pair.apart else [])):
        if rolled_back and one is pair:
            continue
        if twin.drop_twin(one.twin, name, plan_file.launch_id, maintenance=one.twin_maintenance):
            done.append(f"The twin {name} is removed{'' if one.server is None else f' from {one.server}'}.")
    return done or ["There is no twin any more."]


@contextmanager
def _guarded(plan_file: PlanFile) -> Iterator[None]:
    """Nobody conducts on this database meanwhile, also from another machine."""
    guard = Guard(
        lambda: target(plan_file.database), plan_file.database.maintenance, plan_file.launch_id, "safepoint retire"
    )
    guard.take()
    try:
        yield
    finally:
        guard.release()


def _refuse_early(plan_file: PlanFile, entries: Sequence[Entry], now: datetime, *, hurry: bool) -> None:
    status = status_of(entries)
    if status in ("aborted", "failed"):
        raise Refused(
            f"The launch {plan_file.launch_id} {'was aborted' if status == 'aborted' else 'failed'}: "
            "nothing of it stands by that could be retired.",
            subject=plan_file.launch_id,
            remedy="There is nothing to do; "
            f"`safepoint launch{' --again` begins it anew' if status == 'aborted' else '` goes on with it'}.",
        )
    if status not in ("launched", "rolled back"):
        raise Refused(
            f"The launch {plan_file.launch_id} is under way: its way back is still needed.",
            subject=plan_file.launch_id,
            remedy="Finish it, or `safepoint abort` it.",
        )
    if any(entry.kind == "retiring" for entry in entries):
        return  # it goes on
    due, by = due_at(entries, plan_file), ""
    if not hurry and now >= due:  # a timer on a machine whose clock is ahead would give the way back up days too early
        database = plan_file.database
        ahead = clock_ahead(target(database).on(database.maintenance))
        if ahead > APART.total_seconds():
            now -= timedelta(seconds=ahead)
            by = f" by the server's clock; this machine's is {format_duration(ahead)} ahead of it: set it (NTP)"
    if not hurry and now < due:
        kept, over = (
            ("The way back is kept", "will want to go back")
            if status == "launched"
            else ("What the rollback put away stays in the database, too,", "will look at it there")
        )
        zone = plan_file.launch.timezone
        until = f"{due.astimezone(zone):%Y-%m-%d %H:%M}"
        raise Refused(
            f"{kept} until {until}.",
            subject="timetable.retire",
            expected=f"{until} or later",
            found=f"{now.astimezone(zone):%Y-%m-%d %H:%M}{by}",
            remedy=f"Wait; or, if nobody {over} any more: `safepoint retire --now`.",
        )


def due_at(entries: Sequence[Entry], plan_file: PlanFile) -> datetime:
    """When a launch may be retired: as the plan says that it began with (its day may have been moved by `--at`).

    Where it was carried out on another day than planned (`--now`), the distance counts, and not the day.
    """
    begun = next((Plan.from_json(entry.data["plan"]) for entry in entries if entry.kind == "launch"), None)
    if begun is None or not begun.standby or begun.standby[0].at is None:
        return phase_starts(plan_file)["retire"]
    due = datetime.fromisoformat(begun.standby[0].at)
    planned = next((step.at for step in begun.steps if step.phase == "green" and step.at is not None), None)
    opened = next((e.when for e in reversed(entries) if e.kind == "step.done" and e.step == "green"), None)
    if planned is None or opened is None:
        return due
    late = opened - datetime.fromisoformat(planned)
    return due + late if late > _LATE else due
