"""The plan: the timetable of steps and gates, computed from the plan file. Immutable, JSON-safe, no connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from safepoint.config import PlanFile
from safepoint.errors import PlanFileError, Refused
from safepoint.launch.step import OnFailure, Phase, PlannedStep
from safepoint.launch.verbs import verb

GRACE: Final = timedelta(minutes=15)
"""How much later than by the timetable a launch may begin, and its window, without a person's word."""

# id, verb, title, phase, on_failure, gate, params
_Row = tuple[str, str, str, Phase, OnFailure, bool, Mapping[str, Any]]
_PROVE_WAY_BACK: _Row = (
    "prove-way-back",
    "prove-way-back",
    "Prove the way back on a migrated copy",
    "prepare",
    "stop",
    False,
    {},
)
_REHEARSE: _Row = ("rehearse", "rehearse", "Rehearse the migrations on the proven copy", "prepare", "stop", False, {})
_CHOOSE_TWIN: _Row = ("choose-twin", "choose-twin", "Choose how the twin is made", "freeze", "stop", False, {})
_SEED_TWIN: _Row = ("seed-twin", "seed-twin", "Bring a twin level beforehand", "freeze", "stop", False, {})


@dataclass(frozen=True)
class Plan:
    """A launch's timetable. `digest` names exactly this plan; `hurry` means that no step waits for its time.

    `fenced` says that the application's roles are locked out while writes are stopped, `led` that a command of the plan
    leads the application to the twin's server; `standby` are steps after the launch that a person gives the order for.
    """

    launch_id: str
    application: str
    old: str
    new: str
    timezone: str
    steps: tuple[PlannedStep, ...]
    hurry: bool = False
    fenced: bool = True
    led: bool = False
    standby: tuple[PlannedStep, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the plan as JSON."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()

    def step(self, step_id: str) -> PlannedStep:
        """A step by its id.

        Raises:
            KeyError: the plan has no such step.
        """
        return next(step for step in self.steps if step.id == step_id)

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {
            "launch_id": self.launch_id,
            "application": self.application,
            "old": self.old,
            "new": self.new,
            "timezone": self.timezone,
            "hurry": self.hurry,
            "fenced": self.fenced,
            **({"led": True} if self.led else {}),
            "steps": [step.as_json() for step in self.steps],
            "standby": [step.as_json() for step in self.standby],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `as_json`."""
        steps = {
            name: tuple(PlannedStep.from_json(step) for step in data.get(name, ())) for name in ("steps", "standby")
        }
        return cls(**{**data, **steps})


def make_plan(plan_file: PlanFile, *, hurry: bool = False) -> Plan:
    """Compute the timetable.

    Raises:
        PlanFileError: a moment of the timetable does not exist, or exists twice, on its day (the clocks change).
    """
    starts = phase_starts(plan_file)
    steps = []
    begun: set[str] = set()
    for step_id, name, title, phase, on_failure, gate, params in _rows(plan_file):
        at = None if phase in begun else starts[phase].isoformat()
        begun.add(phase)
        steps.append(
            PlannedStep(
                id=step_id,
                verb=name,
                title=title,
                phase=phase,
                at=at,
                params=params,
                commands=verb(name).commands(plan_file, params),
                on_failure=on_failure,
                gate=gate,
            )
        )
    return Plan(
        launch_id=plan_file.launch_id,
        application=plan_file.launch.application,
        old=plan_file.releases.old.version,
        new=plan_file.releases.new.version,
        timezone=plan_file.launch.timezone.key,
        steps=tuple(steps),
        hurry=hurry,
        fenced=plan_file.application.has_login,
        led=plan_file.wayback.server is not None and plan_file.wayback.server.lead is not None,
        standby=(_retire(starts["retire"]),),
    )


def _retire(at: datetime) -> PlannedStep:
    return PlannedStep(
        "retire",
        "retire",
        "Retire: remove the twin and the capture; the way back ends",
        "retire",
        at=at.isoformat(),
        commands=("safepoint retire",),
        on_failure="ask",
    )


def phase_starts(plan_file: PlanFile) -> dict[str, datetime]:
    """When each phase begins, in the plan's time zone.

    Raises:
        PlanFileError: a local time does not exist or exists twice.
    """
    starts: dict[str, datetime] = {}
    for phase in type(plan_file.timetable).model_fields:
        moment = getattr(plan_file.timetable, phase)
        try:
            starts[phase] = moment.on(plan_file.launch.date, plan_file.launch.timezone)
        except ValueError as error:
            raise PlanFileError(
                f"timetable.{phase} = {str(moment)!r}: {error}.",
                subject=f"timetable.{phase}",
                remedy=f"Choose another time for {phase!r} in [timetable].",
            ) from None
    return starts


def planned_window(plan_file: PlanFile) -> float:
    """Seconds between the stop of traffic and green, as the timetable has them.

    Raises:
        PlanFileError: as `phase_starts`.
    """
    starts = phase_starts(plan_file)
    # Two local times of one zone would be subtracted as the clocks show them; UTC knows when they change.
    return (starts["green"].astimezone(UTC) - starts["stop"].astimezone(UTC)).total_seconds()


def refuse_past(plan: Plan, now: datetime) -> None:
    """A launch whose first phase should have begun longer than `GRACE` ago is not begun by the timetable.

    Raises:
        Refused: it is too late for this timetable.
    """
    first = plan.steps[0]
    if plan.hurry or first.at is None or datetime.fromisoformat(first.at) >= now - GRACE:
        return
    earliest = (now - GRACE).astimezone(ZoneInfo(plan.timezone))
    raise Refused(
        f"The launch should have begun at {first.at[:16].replace('T', ' ')} with {first.id!r}; that is over.",
        subject=plan.launch_id,
        expected=f"a first step later than {earliest:%Y-%m-%d %H:%M}",
        found=first.at[:16].replace("T", " "),
        remedy="Set a later launch.date, or carry it out without waiting: `safepoint launch --now`.",
    )


def _rows(plan: PlanFile) -> list[_Row]:
    old, new = plan.releases.old.version, plan.releases.new.version
    none: Mapping[str, Any] = {}
    # Where the fence locks the application's roles out, its processes can end while the window goes on.
    fenced = plan.application.has_login
    long_watch = phase_starts(plan)["watch"].isoformat()
    rows: list[_Row] = [
        ("survey", "survey", "Look at everything the launch needs", "prepare", "stop", False, none),
        *_snapshot_rows("prelaunch", "prepare", "Pre-launch snapshot"),
        *([_REHEARSE] if plan.rehearsal.required else []),
        *([_PROVE_WAY_BACK] if plan.wayback.prove else []),
        ("freeze", "freeze", f"Freeze the code of {old} and {new}", "freeze", "stop", False, none),
        ("migrate-plan", "migrate-plan", "List the migrations that will run", "freeze", "stop", False, none),
        *([_CHOOSE_TWIN] if plan.wayback.twin != "template" else []),
        *_snapshot_rows("final", "freeze", "Final snapshot"),
        *([_SEED_TWIN] if plan.wayback.twin != "template" else []),
    ]
    if plan.releases.new.stage:
        rows.append(("stage-new", "stage", f"Start {new} without traffic", "freeze", "stop", False, none))
    rows += [
        ("gate-stop", "gate-stop", "Go for the window?", "stop", "stop", True, none),
        ("ready", "ready", "Load what the window needs", "stop", "stop", False, none),
        ("stop-traffic", "stop-traffic", "Close the site: 503 with Retry-After", "stop", "undo", False, none),
        ("stop-old", "stop-release", f"Stop {old}", "stop", "undo", False, {"release": "old", "wait": not fenced}),
        ("fence", "fence", "Stop writes at the database", "stop", "undo", False, none),
        ("twin", "twin", "Safe point: make the twin", "stop", "undo", False, none),
        ("prove-quiet", "prove-quiet", "Prove that nobody wrote since", "stop", "undo", False, none),
        ("migrate", "migrate", "Migrate", "migrate", "undo", False, none),
        ("migrate-check", "migrate-check", "Verify that no migration is left", "migrate", "undo", False, none),
        ("reattach", "reattach", "Re-attach what a rollback put away", "migrate", "ask", False, none),
        ("arm", "arm", "Arm the capture of what comes after", "migrate", "undo", False, none),
        ("old-gone", "release-gone", f"See that {old} is gone", "migrate", "undo", False, {"release": "old"}),
        ("unfence", "unfence", "Let the application write again", "migrate", "undo", False, none),
        ("start-new", "start-release", f"Start {new}", "migrate", "undo", False, {"release": "new"}),
        ("cache", "clear-cache", "Clear the cache", "migrate", "ask", False, {"release": "new"}),
        ("warm", "warm-cache", "Warm the cache", "migrate", "ask", False, {"release": "new"}),
        ("checkpoints", "checkpoints", "Run the checkpoints", "migrate", "ask", False, {"release": "new"}),
        *_canary_rows(plan),
        ("green", "open-traffic", f"Green: everyone on {new}", "green", "ask", False, {"release": "new"}),
        ("settle", "watch", "Look on until the long watch begins", "green", "ask", False, {"until": long_watch}),
        ("watch", "watch", "Watch", "watch", "ask", False, none),
        ("keep-logs", "keep-logs", "Keep what was logged since the site was closed", "watch", "ask", False, none),
    ]
    return rows


def _canary_rows(plan: PlanFile) -> list[_Row]:
    """What stands before everyone is let in. Without a canary nobody has been: a no-go takes the way back by itself."""
    if not plan.has_canary:
        return [("gate-green", "gate-green", "Go for everyone?", "green", "undo", True, {"of": "checkpoints"})]
    none: Mapping[str, Any] = {}
    title = f"Canary: {plan.canary.percent} % of clients on {plan.releases.new.version}"
    return [
        ("gate-canary", "gate-canary", "Go for the canary?", "green", "undo", True, none),
        ("canary", "canary", title, "green", "ask", False, none),
        ("gate-green", "gate-green", "Go for everyone?", "green", "ask", True, none),
    ]


def _snapshot_rows(label: str, phase: Phase, title: str) -> list[_Row]:
    params = {"label": label}
    prefix = "" if label == "prelaunch" else "final-"
    return [
        (f"{prefix}snapshot", "snapshot", title, phase, "stop", False, params),
        (f"{prefix}proof", "proof", "Prove it: restore and compare every row", phase, "stop", False, params),
        (f"{prefix}store", "store", "Store it offsite and read it back", phase, "stop", False, params),
    ]
