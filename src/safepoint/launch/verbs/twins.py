"""Verbs of a twin that is kept level before the window: choose, seed, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verb import Verb
from safepoint.launch.wayback import levelling, twin_choice


class ChooseTwin(Verb):
    """Kept level before the window, or copied inside it: by measured facts, with the reason."""

    name = "choose-twin"

    def revert(self, step: PlannedStep) -> PlannedStep:
        """What was made because of it: feed and twin."""
        return PlannedStep(
            f"undo-{step.id}", "drop-seed", "Remove the level twin and its feed", "rollback", on_failure="ask"
        )

    def apply(self, ground: Ground) -> Evidence:
        """The first choice of a try stays."""
        found = twin_choice.decide(ground)
        if found.kind == "none":
            raise Refused(
                f"No twin is possible: {found.reason}.",
                subject=ground.plan.database.name,
                remedy="Without a twin there is no quick way back: remove that cause, then `safepoint retry`.",
            )
        return Evidence(twin_choice.shown(found), found.as_json())


class SeedTwin(Verb):
    """The final snapshot, restored beside the live database, brought level with it, and proven equal at one LSN."""

    name = "seed-twin"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Only where the twin is kept level."""
        return (
            f"pg_restore -j{plan.snapshot.jobs} of the final snapshot as the twin (where it is kept level)",
            "replay what was committed since; compare every row of both at one LSN",
        )

    def apply(self, ground: Ground) -> Evidence:
        """No level twin is no failure: then it is copied inside the window, and the gate before it says so."""
        return levelling.seed(ground)


class DropSeed(Verb):
    """Remove the level twin and its feed."""

    name = "drop-seed"

    def apply(self, ground: Ground) -> Evidence:
        """Whatever of it is there. Where none was chosen the database is not asked: it may be away."""
        if (ground.fact(twin_choice.CHOICE) or {}).get("kind") != "logical":
            return Evidence("there is none")
        levelling.remove(ground)
        return Evidence("the twin and its feed are removed")
