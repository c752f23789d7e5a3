"""Verbs of the window's second half: migrate, verify, arm the capture."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from safepoint.config import PlanFile, format_duration
from safepoint.django.managepy import Manage, is_named, redirect
from safepoint.django.migrations import is_clean, migrate, replacements
from safepoint.django.pending import read_pending
from safepoint.errors import CommandFailed, LockNotAvailable, ProofFailed, SafepointError
from safepoint.hosts import command
from safepoint.launch.ground import Ground
from safepoint.launch.recorded import compare, ran_since, read_records
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.readying import answered_clean, ready_to_check
from safepoint.launch.wayback import levelling
from safepoint.launch.wayback.moved import left_here
from safepoint.launch.wayback.proof_standing import proven_mapping, refuse_uncaptured
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Progress
from safepoint.wayback.capture import capture
from safepoint.wayback.capture.promises import shown
from safepoint.wayback.fence import fence, quiet
from safepoint.wayback.fence.login import drop_migration_login, migration_login
from safepoint.wayback.holders import Holder, locking
from safepoint.wayback.holders import shown as shown_holders


def migrating(ground: Ground) -> Manage:
    """The new release's `manage.py` as it may write while the fence stands.

    Where the application can be pointed at a login by its variables, that is a temporary one, a member of the owner's
    role: the application's own roles are locked out. Elsewhere it is the application's own login.
    """
    database = ground.plan.database
    login: Target = ground.target
    if ground.plan.application.has_login:
        login = migration_login(
            ground.target,
            ground.launch_id,
            database.application_roles[0],
            maintenance=database.maintenance,
            lock_timeout=database.lock_timeout.total_seconds(),
        )
    env, secrets = redirect(ground.plan.application, login, lock_timeout=database.lock_timeout.total_seconds())
    return Manage(ground.application_host, ground.release("new"), env=env, secrets=secrets)


def drop_login(ground: Ground) -> None:
    """Remove the temporary login, if there is one."""
    database = ground.plan.database
    drop_migration_login(
        left_here(ground), ground.launch_id, database.application_roles[0], maintenance=database.maintenance
    )


class Migrate(Verb):
    """`manage.py migrate --noinput`, with a lock timeout and a bounded number of tries."""

    name = "migrate"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The runbook's command, with what it lacked."""
        return (
            command((*plan.releases.new.manage, "migrate", "--noinput")).shown(),
            f"lock_timeout {plan.database.lock_timeout.total_seconds():g} s, {plan.database.lock_retries} retries",
        )

    def apply(self, ground: Ground) -> Evidence:
        """After a kill the migration of before may still run: it is shut out first, then its sessions are ended.

        The login's new password keeps it from coming back, wherever its process runs.
        """
        levelling.end_feed(ground)  # a publication could make the migration's own statements fail
        # Quiet is proven, and its slot would keep on the disk all that the migration logs, for nothing.
        quiet.drop_quiet_slot(ground.target, ground.launch_id, maintenance=ground.plan.database.maintenance)
        manage = migrating(ground)
        if ground.begun_before:
            _end_other_sessions(ground)
            if ground.fact("migrations-before") is not None:
                _refuse_a_second_run(manage)
        # The first one recorded stays: what ran before a kill, or before a lock that was not had, is counted as well.
        before = ground.record("migrations-before", read_records(ground.target))
        tries = ground.plan.database.lock_retries
        for attempt in range(tries + 1):
            try:
                ready_to_check(ground, manage)
                done = migrate(manage, cancelled=ground.cancelled)
            except LockNotAvailable as refused:
                error = _with_holders(ground, refused)  # before anything else: they may go, or are ended, next
                _refuse_a_second_run(manage, error)
                if attempt == tries:
                    raise error from refused
                ground.report(Progress(f"waiting for a lock: {error.message}", attempt + 1, tries + 1, "tries"))
                _end_other_sessions(ground)
                ground.pause(min(0.5 * (attempt + 1), 10.0))
            else:
                break
        planned = list((ground.fact("pending") or {}).get("migrations", []))
        ran = compare(planned, before, ran_since(before, read_records(ground.target)), partial(replacements, manage))
        return Evidence(
            f"{len(ran)} migrations in {format_duration(done.seconds)}",
            {**done.as_json(), "applied": ran, "tries": attempt + 1},
        )


def _refuse_a_second_run(manage: Manage, error: LockNotAvailable | None = None) -> None:
    """What a migration that is not atomic did until it was stopped stands: what it does to rows would be done twice.

    Args:
        error: it says which one was stopped; without it that is the first that is pending.

    Raises:
        CommandFailed: it is such a one.
    """
    stopped = next(
        (one for one in read_pending(manage).migrations if error is None or is_named(one.label, error.subject or "")),
        None,
    )
    if stopped is None or stopped.atomic or not stopped.writes:
        return
    why = "may have been stopped half-way" if error is None else "did not get a lock in time"
    raise CommandFailed(
        f"{stopped.label} {why}. It is not atomic: what it did until then stays, and it is not run a second time.",
        subject=stopped.label,
        found=None if error is None else error.message,
        remedy="Roll back. One operation for each migration that is not atomic leaves nothing half-way.",
    )


def _with_holders(ground: Ground, error: LockNotAvailable) -> LockNotAvailable:
    """What `migrate` said of a lock, and who has locks in the database now: a person may have to end them."""
    holders: list[Holder] = []
    with suppress(SafepointError), connect(ground.target, application_name="safepoint migrate") as connection:
        holders = locking(connection)
    if not holders:
        return error
    return LockNotAvailable(
        f"{error.message.rstrip('.')}; {holders[0]}",
        subject=error.subject,
        found=f"locks of others: {shown_holders(holders)}",
        remedy=f"Let it end, or end it: {holders[0].ending}; then `safepoint retry`.",
    )


def _end_other_sessions(ground: Ground) -> None:
    """Nobody has any business in the database now: whoever came back and holds a lock is shown out again."""
    prior = fence.FencePrior.from_json(dict(ground.need("fence")))
    fence.close(ground.target, prior, maintenance=ground.plan.database.maintenance)


class MigrateCheck(Verb):
    """`manage.py migrate --check`: no migration is left."""

    name = "migrate-check"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The runbook's command."""
        return (command((*plan.releases.new.manage, "migrate", "--check")).shown(),)

    def apply(self, ground: Ground) -> Evidence:
        """Asked by the new release's own code, after the fact."""
        clean = answered_clean(ground, "new")
        if clean is None:
            clean = is_clean(migrating(ground))
        if not clean:
            raise ProofFailed(
                "After the migration there are still migrations to run.",
                subject="migrate --check",
                remedy="Roll back; look at the migrations' own output in the report.",
            )
        return Evidence("no migration is left")


class Arm(Verb):
    """From here on, every change is captured: publication, then slot, then traffic."""

    name = "arm"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is created in the migrated database."""
        logical = ("CREATE PUBLICATION ...", "pg_create_logical_replication_slot(..., 'pgoutput')")
        triggers = "CREATE TRIGGER ... ON each table EXECUTE FUNCTION safepoint_capture.note()"
        return {
            "auto": (*logical, f"where the log cannot be decoded: {triggers}"),
            "logical": logical,
            "triggers": (triggers,),
        }[plan.wayback.capture]

    def revert(self, step: PlannedStep) -> PlannedStep:
        """Remove it from the database."""
        return PlannedStep(f"undo-{step.id}", "disarm", "Remove the capture", "rollback", on_failure="ask")

    def apply(self, ground: Ground) -> Evidence:
        """Where the server cannot decode, the evidence says what can no longer be promised.

        Raises:
            NeedsPerson: nothing would be captured, and a rollback carry nothing, by a way back that is proven.
        """
        # What rows of the migration's own tables were before they changed is what the next launch knows them by.
        mapping = proven_mapping(ground)
        made = () if mapping is None else mapping.stash
        facts = capture.arm(ground.target, ground.launch_id, ground.plan.wayback.capture, whole=made)
        if facts.mode == "none":
            refuse_uncaptured(ground, facts.reason or "it cannot be")
        ground.record("capture", facts.as_json())
        told = {"logical": "by decoding the log", "triggers": f"by triggers: {facts.reason}"}
        how = told.get(facts.mode)
        summary = f"every change from here on is captured {how}" if how else f"no capture: {facts.reason}"
        if how and facts.promises:
            summary = f"what is written from here on is captured {how}, but not all of it. {shown(facts.promises)}"
        return Evidence(summary, facts.as_json())
