"""The forecast of a rehearsal: its times and bytes put together with what the live server and earlier launches say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safepoint.config import PlanFile
from safepoint.launch.doctor.disk_room import server_disk
from safepoint.launch.estimates import launched
from safepoint.launch.plan import make_plan, planned_window
from safepoint.launch.verbs.stop import fenced_roles
from safepoint.launch.wayback import twin_choice
from safepoint.launch.whose import owner_of
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import target
from safepoint.rehearsal.checks import Check, judge_disk, judge_window
from safepoint.rehearsal.forecast import MARGIN, Forecast, Ratio, disk_needed, forecast
from safepoint.rehearsal.observation import Observed
from safepoint.rehearsal.speeds import Speeds
from safepoint.wayback.names import twin_name
from safepoint.wayback.stash import stash

_WINDOW = ("stop", "migrate", "green")
_STANDS = "select 1 from pg_database where datname = %s"
# A slot keeps what its reader has not taken yet, the archiver what it has not copied: either may fall behind by all
# that a migration logs. This launch itself holds none then: its capture is armed afterwards.
_KEEPERS = """
    select 'the slot ' || slot_name from pg_replication_slots where restart_lsn is not null and not temporary
    union all select 'the archiver' from pg_settings where name = 'archive_mode' and setting <> 'off'
    order by 1
"""


@dataclass(frozen=True)
class Measured:
    """How the two servers compare: by scans of one table, and in writing and syncing."""

    ratio: Ratio | None
    speeds: Speeds


def foresee(
    plan: PlanFile, seen: Observed, measured: Measured, snapshot_bytes: int, took: Mapping[str, float]
) -> Forecast:
    """What to expect on the live database, which is asked for its size and its disk.

    Args:
        snapshot_bytes: the database's size when the snapshot was taken.
        took: seconds that steps of the launch took on the copy, by their names.
    """
    with connect(target(plan.database)) as connection:
        facts = survey(connection)
        keeper = log_keeper(connection)
        twin = connection.execute(_STANDS, [twin_name(plan.database.name, plan.launch_id)]).fetchone()
    growth = facts.database_bytes / max(1, snapshot_bytes)
    known = {**_not_waited_for(plan), **launched(plan)}
    here = _on_copy(plan, seen, took, growth)
    steps = [step for step in make_plan(plan).steps if step.phase in _WINDOW and step.id != "migrate"]
    fixed = {step.id: seconds for step in steps if (seconds := known.get(step.id, here.get(step.id))) is not None}
    return forecast(
        inside=sum(run.seconds for run in seen.migrations),
        outside=seen.outside,
        ratio=measured.ratio,
        speeds=measured.speeds,
        log=seen.wal_bytes,
        growth=growth,
        fixed=fixed,
        rehearsed=[step for step in fixed if step not in known],
        planned=planned_window(plan),
        unmeasured=[step.id for step in steps if step.id not in fixed and not step.gate],
        disk=disk_needed(
            peak=seen.peak_bytes,
            log=seen.log_bytes,
            written=seen.wal_bytes,
            keeper=keeper,
            twin=facts.database_bytes if twin is None and plan.wayback.server is None else 0,
            growth=growth,
            free=server_disk(plan, facts),
        ),
    )


def log_keeper(connection: Connection) -> str | None:
    """What may keep on the server's disk all that a migration logs; None where the log's files are used again."""
    return ", ".join(str(row[0]) for row in connection.execute(_KEEPERS).fetchall()) or None


def _not_waited_for(plan: PlanFile) -> dict[str, float]:
    """Steps that take no time: the old release is told to stop and the window goes on; nothing is put away."""
    told = {"stop-old": 0.0} if fenced_roles(plan) else {}
    return told if stash.waiting(plan.state, plan.launch_id, owner_of(plan)) else {**told, "reattach": 0.0}


def _on_copy(plan: PlanFile, seen: Observed, took: Mapping[str, float], growth: float) -> dict[str, float]:
    """What the copy says about steps of which no launch is known yet; only where it is the same that is done there."""
    found = dict(took)
    if "twin" in found:
        found["twin"] = round(found["twin"] * max(1.0, growth), 3)
        if plan.wayback.twin != "template" and twin_choice.choose(plan).kind != "template":
            del found["twin"]  # it is not copied in the window
    visit = plan.checkpoints.login
    if visit is None or visit.browser == "http":  # else a browser is started, too
        found["ready"] = seen.outside  # as long as it took to start `migrate` and to end it
    return found


def fits(prediction: Forecast) -> tuple[Check, ...]:
    """Whether what is known of the window fits into the timetable's, and what is written on the server's disk."""
    window, disk = prediction.window, prediction.disk
    found: list[Check] = []
    if prediction.planned:
        found.append(judge_window(prediction.planned, window.low, window.expected, window.high))
    if disk is not None:
        found.append(judge_disk(disk.needed, disk.free, disk.parts, MARGIN))
    return tuple(found)
