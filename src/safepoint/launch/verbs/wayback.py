"""Verbs of the way back: read the capture to its end, swap the twin in, check the old release, remove the capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safepoint.config import Argv, PlanFile, format_duration
from safepoint.django.inspector import IDENTITY
from safepoint.django.migrations import is_clean
from safepoint.django.pending import read_pending
from safepoint.errors import CaptureLost, Interrupted, ProofFailed, ServerAway
from safepoint.hosts import command
from safepoint.launch.ground import Ground
from safepoint.launch.patience import is_away
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.readying import answered_clean
from safepoint.launch.wayback.moved import live_now, reopen_there, swapped
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.affected import written
from safepoint.wayback.affected.affected import UserTable
from safepoint.wayback.capture import capture
from safepoint.wayback.capture.others import left_with, staying_with
from safepoint.wayback.capture.standbys import left_reading, standbys
from safepoint.wayback.twin import feed
from safepoint.wayback.twin.swap import swap, unswap
from safepoint.wayback.twin.twin import TwinFacts

_LEAD_SECONDS = 120.0


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
            if is_away(ground):  # a standby in its place need not have what captures
                raise ServerAway(error.message, found=error.found, remedy=error.remedy) from error
            ground.record("capture-lost", {"message": error.message, "found": error.found})
            return Evidence(
                f"ALARM: {error.message} What the spool has is carried; what was written later is listed by the "
                "rows that stand",
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
    unseen: Sequence[str] = (),
    *,
    lost: bool = False,
) -> written.Written:
    """What a capture knows, as a file; from the tables themselves where nothing could be captured, or it was lost.

    `unseen`: what else the capture cannot know, beside that which it did not promise.
    """
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
    words["lost_since"] = facts.start_xid if lost else None
    return written.list_written(database, spool, out, missing=(*facts.promises, *unseen), **words)


def unseen_of(drained: Mapping[str, Any]) -> tuple[str, ...]:
    """What a drain found that the capture has not seen, a sentence each."""
    return tuple(
        f"{table} is not captured, or was not for a time: it was made after the capture was armed, what captures it "
        "was switched off, or it was rewritten by ALTER TABLE (SET UNLOGGED, ALTER COLUMN ... TYPE)."
        for table in drained.get("unseen") or ()
    )


class Swap(Verb):
    """The twin takes the live database's name; the migrated database is kept under another."""

    name = "swap"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Both renames in one transaction."""
        name = plan.database.name
        return (f"ALTER DATABASE {name} RENAME TO ...; ALTER DATABASE <twin> RENAME TO {name}",)

    def apply(self, ground: Ground) -> Evidence:
        """Looks by oid which of the two carries the name: swapping twice is impossible."""
        pair = ground.standing
        twin = TwinFacts.from_json(dict(ground.need("twin")))
        facts = swap(pair, twin, ground.kept)
        there = "" if not pair.apart else f"; {pair.live.dbname} is on {pair.server} now"
        where = "" if not pair.apart else f" on {pair.live.address}"
        with pair.at_live() as connection:
            reading, staying = standbys(connection), staying_with(connection, facts.kept_as)
        return Evidence(
            f"swapped in {format_duration(facts.seconds)}{there}; the migrated database is kept as {facts.kept_as}"
            f"{where}{left_reading(reading)}{left_with(facts.kept_as, staying)}"
            f"{''.join(f'; {note}' for note in twin.notes)}",
            {**facts.as_json(), "server": pair.server, "standbys": reading, "staying": staying},
        )


class SwapForth(Verb):
    """The migrated database takes the live name again; the twin is set aside, with all that was carried into it."""

    name = "swap-forth"

    def apply(self, ground: Ground) -> Evidence:
        """Where the rollback had not swapped yet, there is nothing to do."""
        facts = TwinFacts.from_json(dict(ground.need("twin")))
        if not swapped(ground, facts):
            reopen_there(ground)  # a kill may have come before it
            return Evidence("the migrated database has its place still")
        done = unswap(ground.standing, facts, ground.kept)
        reopen_there(ground)
        seconds = format_duration(done.seconds)
        return Evidence(f"swapped in {seconds}; the twin stands by as {done.kept_as}", done.as_json())


class CheckOld(Verb):
    """The old release finds its own schema: no migration of it is missing, and none is there that it does not know."""

    name = "check-old"

    def apply(self, ground: Ground) -> Evidence:
        """`migrate --check` by the old release's own code and login."""
        if ground.standing.apart:
            _refuse_elsewhere(ground)
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


def _refuse_elsewhere(ground: Ground) -> None:
    """The old release must be on the server that the twin was swapped in on: by what its own connection says."""
    there = live_now(ground)
    with connect(there) as connection:
        row = connection.execute(IDENTITY.encode()).fetchone()
    found = read_pending(ground.manage("old")).identity
    if row is None or found != str(row[0]):
        raise ProofFailed(
            f"{ground.release('old').version} is not led to {there.address}, where its data is now.",
            subject="wayback.server",
            expected=f"the database {there.dbname} on {there.address} ({row[0] if row else 'gone'})",
            found=f"another one ({found})",
            remedy="Do not open the site. Lead the application there by hand (its settings, its URL), then "
            "`safepoint retry`; or `safepoint return`.",
        )


class Lead(Verb):
    """The application's own command that leads it to the other server, or back."""

    name = "lead"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The plan's command."""
        words = _lead(plan, back=bool(params.get("back")))
        return () if words is None else (command(words).shown(),)

    def apply(self, ground: Ground) -> Evidence:
        """Only where the twin that stands is there: one that was given up was copied beside the live database."""
        back = bool(ground.step.params.get("back"))
        words = _lead(ground.plan, back=back)
        pair = ground.standing
        if words is None or not pair.apart:
            return Evidence("nothing has to be led: the twin stands beside the live database")
        ground.application_host.run(command(words, directory=ground.release("old").directory), timeout=_LEAD_SECONDS)
        return Evidence(f"the application is led to {pair.live.address if back else pair.server}")


def _lead(plan: PlanFile, *, back: bool) -> Argv | None:
    server = plan.wayback.server
    return None if server is None else server.lead_back if back else server.lead


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
