"""Verbs of the way back: read the capture to its end, swap the twin in, check the old release, remove the capture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile, format_duration
from safepoint.django.migrations import is_clean
from safepoint.errors import CaptureLost, Interrupted, ProofFailed
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence, Verb
from safepoint.launch.verbs.readying import answered_clean
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback import capture, feed, written
from safepoint.wayback.affected import UserTable
from safepoint.wayback.sessions import database_name
from safepoint.wayback.swap import swap, unswap
from safepoint.wayback.twin import TwinFacts


class Drain(Verb):
    """What was committed up to the stop is in the spool, before the databases change their names."""

    name = "drain"

    def apply(self, ground: Ground) -> Evidence:
        """A kill in between loses and repeats nothing. A capture that is lost stops nobody: what is there is listed."""
        facts = capture.CaptureFacts.from_json(dict(ground.need("capture")))
        if facts.mode == "none":
            return Evidence(f"nothing was captured: {facts.reason}")
        try:
            found = capture.drain(ground.target, facts, ground.folder / "spool", cancelled=ground.cancelled)
        except CaptureLost as error:
            ground.record("capture-lost", {"message": error.message, "found": error.found})
            return Evidence(
                f"ALARM: {error.message} What the spool has is carried and listed; later changes must be found by hand",
                {"lost": error.message},
            )
        if not found.complete:
            raise Interrupted("The capture was not drained to its end.", subject=ground.step.id)
        return Evidence(
            f"{found.total_transactions} transactions since the launch, up to {found.up_to}",
            {"drained": found.as_json()},
        )


def listed(
    ground: Ground,
    database: Target,
    facts: capture.CaptureFacts,
    spool: Path,
    out: Path,
    told: written.Told = written.UNTOLD,
) -> written.Written:
    """What a capture knows, as a file; from the tables themselves where nothing could be captured."""
    users = UserTable.of(ground.fact("project") or {})
    words: dict[str, Any] = {
        "user_table": users.table,
        "user_label": users.label,
        "given": ground.plan.wayback.affected,
        "cancelled": ground.cancelled,
        "told": told,
    }
    if facts.mode == "none":
        return written.list_rows_since(database, facts, out, **words)
    return written.list_written(database, spool, out, **words)


class Swap(Verb):
    """The twin takes the live database's name; the migrated database is kept under another."""

    name = "swap"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Both renames in one transaction."""
        name = plan.database.name
        return (f"ALTER DATABASE {name} RENAME TO ...; ALTER DATABASE <twin> RENAME TO {name}",)

    def apply(self, ground: Ground) -> Evidence:
        """Looks by oid which of the two carries the name: swapping twice is impossible."""
        facts = swap(
            ground.target,
            TwinFacts.from_json(dict(ground.need("twin"))),
            ground.kept,
            maintenance=ground.plan.database.maintenance,
        )
        return Evidence(
            f"swapped in {format_duration(facts.seconds)}; the migrated database is kept as {facts.kept_as}",
            facts.as_json(),
        )


class SwapForth(Verb):
    """The migrated database takes the live name again; the twin is set aside, with all that was carried into it."""

    name = "swap-forth"

    def apply(self, ground: Ground) -> Evidence:
        """Where the rollback had not swapped yet, there is nothing to do."""
        facts = TwinFacts.from_json(dict(ground.need("twin")))
        maintenance = ground.plan.database.maintenance
        if not swapped(ground, facts):
            return Evidence("the migrated database has its place still")
        done = unswap(ground.target, facts, ground.kept, maintenance=maintenance)
        seconds = format_duration(done.seconds)
        return Evidence(f"swapped in {seconds}; the twin stands by as {done.kept_as}", done.as_json())


def swapped(ground: Ground, facts: TwinFacts) -> bool:
    """Whether the migrated database bears the name that a rollback gives it; the server says so, not the ledger."""
    with connect(ground.maintenance) as connection:
        found = database_name(connection, facts.live_oid)
    return found == ground.kept


class CheckOld(Verb):
    """The old release finds its own schema: no migration of it is missing, and none is there that it does not know."""

    name = "check-old"

    def apply(self, ground: Ground) -> Evidence:
        """`migrate --check` by the old release's own code and login."""
        clean = answered_clean(ground, "old")
        if clean is None:
            clean = is_clean(ground.manage("old"))
        if not clean:
            raise ProofFailed(
                f"{ground.release('old').version} does not find its schema in the database that was swapped in.",
                subject="migrate --check",
                remedy="Do not open the site. Compare `manage.py showmigrations` with the report.",
            )
        return Evidence(f"{ground.release('old').version} has its schema back")


class Disarm(Verb):
    """Publication, slot and raised replica identities are removed from the database that was captured."""

    name = "disarm"

    def apply(self, ground: Ground) -> Evidence:
        """After a swap the captured database is the kept one."""
        facts = ground.fact("twin")
        gone = facts is not None and swapped(ground, TwinFacts.from_json(dict(facts)))
        database = ground.target.on(ground.kept) if gone else ground.target
        feed.end(database, ground.launch_id)  # where a kill came before the migration
        recorded = ground.fact("capture")
        if recorded is None:  # a server that stopped while it was made may have half of it still
            capture.disarm_unrecorded(database, ground.launch_id, "capture")
            return Evidence("no capture was armed")
        capture.disarm(database, capture.CaptureFacts.from_json(dict(recorded)))
        return Evidence("the capture is removed")
