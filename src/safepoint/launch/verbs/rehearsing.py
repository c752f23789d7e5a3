"""The rehearsal as a step of the launch: the day before, on the snapshot that was just proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safepoint.config import PlanFile, format_duration
from safepoint.errors import Refused
from safepoint.hosts import command
from safepoint.launch.ground import Ground
from safepoint.launch.rehearsal.rehearsals import PAGE, Rehearsal, rehearsal_folder
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.carrying import record_proof
from safepoint.launch.verbs.prepare import NO_GO, snapshot_folder


class Rehearse(Verb):
    """The launch's migrations on a copy of its own snapshot; the way back is proven there, too."""

    name = "rehearse"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What it runs besides reading."""
        return (command((*plan.releases.new.manage, "migrate", "--noinput")).shown() + "  (on a restored copy)",)

    def apply(self, ground: Ground) -> Evidence:
        """A no-go ends the launch a day before its window; run again, it rehearses anew, on another snapshot.

        What was found stands beside the snapshot, so that the gate finds it, and any later one of the command. The plan
        of a launch that has begun has this step also where a person gave the rehearsal up since.
        """
        if not ground.plan.rehearsal.required:
            return Evidence("not rehearsed by the plan's choice ([rehearsal] required = false)")
        snapshot = snapshot_folder(ground, "prelaunch").name
        done = rehearse(ground.plan, snapshot, report=ground.report, cancelled=ground.cancelled)
        page = rehearsal_folder(ground.plan, snapshot) / PAGE
        if done.verdict != "go":
            ground.renew(NO_GO, {"snapshot": snapshot})
            raise Refused(
                f"The rehearsal says no-go: {'; '.join(done.reasons)}",
                subject=str(page),
                remedy="Nothing live was touched. Mend the migrations, the data or the plan file: another "
                "snapshot is taken then, and rehearsed.",
            )
        if done.way_back is not None:
            record_proof(ground, done.way_back, done.pending.digest)
        return Evidence(_summary(done), {**_facts(done), "page": str(page)})


def _summary(done: Rehearsal) -> str:
    count = len(done.pending.migrations)
    if not count:
        return "no migration is pending: there was nothing to rehearse"
    live = "" if done.forecast is None else f", about {format_duration(done.forecast.migrate.expected)} foreseen live"
    lines = sum(one.waived is None for one in done.lint.findings)
    took = format_duration(done.observed.seconds)
    return f"go: {count} migrations in {took} on the copy{live}; {lines} findings to read"


def _facts(done: Rehearsal) -> dict[str, Any]:
    return {
        "rehearsal": done.verdict,
        "digest": done.pending.digest,
        "snapshot": done.snapshot_id,
        "made_at": done.made_at,
        "forecast": None if done.forecast is None else asdict(done.forecast.migrate),
        "steps": {} if done.forecast is None else dict(done.forecast.fixed),
        "undo": None if done.undo is None else done.undo.verdict,
        "way_back": None if done.way_back is None else done.way_back.as_json(),
    }
