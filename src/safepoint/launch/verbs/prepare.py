"""Verbs before the window: look at everything, snapshot, prove, store, freeze the code, list the migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from safepoint.backup.manifest import Manifest, read_manifest
from safepoint.backup.proof import prove, read_proof
from safepoint.backup.shelf import in_use, store_everywhere
from safepoint.config import PlanFile, format_bytes
from safepoint.django.inspector import inspect
from safepoint.errors import Refused
from safepoint.hosts import command
from safepoint.launch import frozen, surroundings
from safepoint.launch.doctor.doctor import examine
from safepoint.launch.doctor.finding import some
from safepoint.launch.ground import WHICH, Ground, since_abort
from safepoint.launch.recorded import read_records
from safepoint.launch.snapshots.snapshots import local_tools, scratch_of, take
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.migrate import drop_login, migrating
from safepoint.launch.wayback import levelling
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.stores import open_store, shown_url

_MIGRATION_LINE = re.compile(r"^\w+\.\w+$", re.MULTILINE)


class Survey(Verb):
    """Everything that a launch needs, examined; the baselines of the checkpoints are written down."""

    name = "survey"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The same as the command `doctor`."""
        return ("safepoint doctor",)

    def apply(self, ground: Ground) -> Evidence:
        """A failed check ends the launch before it begins; warnings are in the evidence."""
        findings = examine(ground.plan)
        with connect(ground.target) as connection:
            facts = survey(connection)
        ground.renew("baseline", {"size": facts.database_bytes, "at": datetime.now(UTC).isoformat()})
        failed = [finding for finding in findings if finding.verdict == "failure"]
        if failed:
            first = failed[0]
            raise Refused(
                f"{len(failed)} of {len(findings)} checks failed; the first: {first.message}",
                subject=first.check,
                remedy=first.remedy
                if len(failed) == 1
                else f"{first.remedy or 'Remove that cause.'} `safepoint doctor` shows all {len(failed)}.",
            )
        warnings = sum(finding.verdict == "warning" for finding in findings)
        return Evidence(
            f"{len(findings)} checks, {warnings} warnings; {format_bytes(facts.database_bytes)} of data, "
            f"PostgreSQL {facts.server_version}",
            {
                "findings": [finding.as_json() for finding in findings],
                "size": facts.database_bytes,
                "server_version": facts.server_version,
            },
        )


NO_GO: Final = "no-go"
"""The fact that names the snapshot on which a rehearsal said no-go."""


class Snapshot(Verb):
    """A logical backup, fingerprinted in the dump's own snapshot."""

    name = "snapshot"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The dump, as it will be run."""
        return (
            f"pg_dump -Fd -j{plan.snapshot.jobs} -Z {plan.snapshot.compress} {plan.database.name}",
            "pg_dumpall --globals-only",
        )

    def check(self, ground: Ground) -> Evidence | None:
        """A whole snapshot of this launch and label may be there from before a crash, or a run that failed."""
        label = ground.step.params["label"]
        folder = _whole(ground, label)
        if folder is None or _too_old(ground, label) or _refused(ground, label):
            return None
        return _snapshot_evidence(read_manifest(folder))

    def apply(self, ground: Ground) -> Evidence:
        """A folder left by a killed dump is not continued; the name is recorded before the dump begins."""
        label = ground.step.params["label"]
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        # One that is whole is here only because it would be refused again, and another one goes by another name.
        write_down = ground.record if _whole(ground, label) is None else ground.renew
        snapshot_id = write_down(f"snapshot:{label}", {"id": f"{ground.launch_id}-{label}-{stamp}"})["id"]
        with levelling.seed_instant(ground, label) as at:
            manifest = take(
                ground.plan, snapshot_id, ground.launch_id, at=at, report=ground.report, cancelled=ground.cancelled
            )
        return _snapshot_evidence(manifest)


def _whole(ground: Ground, label: str) -> Path | None:
    known = ground.fact(f"snapshot:{label}")
    folder = None if known is None else ground.snapshots / str(known["id"])
    return folder if folder is not None and (folder / "manifest.json").exists() else None


def taken_at(ground: Ground, label: str) -> datetime | None:
    """The instant of this launch's snapshot; its name was recorded before, and may be by a conductor that died then."""
    folder = _whole(ground, label)
    return None if folder is None else read_manifest(folder).taken_at


def _too_old(ground: Ground, label: str) -> bool:
    """Whether a snapshot of a run that failed is older than the gate lets it be: with it, that would fail for ever."""
    taken = taken_at(ground, label)
    if taken is None or ground.is_of_this_run(f"snapshot:{label}"):
        return False
    limit = ground.plan.snapshot.max_age if label == "final" else ground.plan.rehearsal.max_age
    return not timedelta(0) <= datetime.now(UTC) - taken <= limit


def _refused(ground: Ground, label: str) -> bool:
    """Whether a rehearsal said no-go on it: the cause may have been rows, which have been mended since, not in it."""
    no_go, taken = ground.fact(NO_GO), ground.fact(f"snapshot:{label}")
    return no_go is not None and taken is not None and no_go["snapshot"] == taken["id"]


def _snapshot_evidence(manifest: Manifest) -> Evidence:
    tables = manifest.fingerprint.tables
    rows = sum(table.rows for table in tables.values())
    return Evidence(
        f"{rows:,} rows in {len(tables)} tables, {format_bytes(manifest.total_bytes)} compressed, LSN {manifest.lsn}",
        {
            "id": manifest.id,
            "bytes": manifest.total_bytes,
            "rows": rows,
            "tables": len(tables),
            "lsn": manifest.lsn,
            "digest": manifest.fingerprint.digest,
        },
    )


def snapshot_folder(ground: Ground, label: str) -> Path:
    """The folder of this launch's snapshot with that label."""
    return ground.snapshots / str(ground.need(f"snapshot:{label}")["id"])


class Proof(Verb):
    """The snapshot, restored into a scratch server, equals its source in every row."""

    name = "proof"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What the proof runs."""
        return (f"pg_restore -j{plan.snapshot.jobs} into a scratch server", "compare every row's fingerprint")

    def check(self, ground: Ground) -> Evidence | None:
        """A proof is written beside the snapshot when it is whole."""
        folder = snapshot_folder(ground, ground.step.params["label"])
        known = read_proof(folder)
        return None if known is None else Evidence("already proven", known.as_json())

    def apply(self, ground: Ground) -> Evidence:
        """Differences are a `ProofFailed`, which names them."""
        folder = snapshot_folder(ground, ground.step.params["label"])
        with in_use(folder):  # a `prune` in another terminal must not take it away meanwhile
            proof = prove(
                folder,
                scratch_parent=ground.scratch,
                scratch=scratch_of(ground.plan),
                jobs=ground.plan.snapshot.jobs,
                report=ground.report,
                cancelled=ground.cancelled,
                extra=local_tools(ground.plan),
            )
        return Evidence(
            f"restored and equal: {proof.rows:,} rows in {proof.tables} tables, fingerprint {proof.digest[:12]}",
            proof.as_json(),
        )


class Store(Verb):
    """The snapshot, copied to every store, read back and compared."""

    name = "store"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """One line a store."""
        return tuple(f"upload to {store.name} ({shown_url(store.url)}), read back, compare" for store in plan.stores)

    def apply(self, ground: Ground) -> Evidence:
        """Uploading again what is there already is harmless; what is read back decides.

        Every store is tried, also after one that failed; each has to have it.
        """
        folder = snapshot_folder(ground, ground.step.params["label"])
        stores = [open_store(store, ground.plan.folder) for store in ground.plan.stores]
        outcomes = store_everywhere(folder, stores, report=ground.report, cancelled=ground.cancelled)
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failed:
            raise failed[0]
        names = ", ".join(store.name for store in ground.plan.stores)
        stored = [outcome.stored.as_json() for outcome in outcomes if outcome.stored is not None]
        return Evidence(f"in {names}: read back and equal", {"stores": stored})


class Freeze(Verb):
    """The code of both releases, by content, and their packages; a change after this is seen before the window."""

    name = "freeze"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The command that names the code's content."""
        return ("sha256 of every file of both releases, without uploads, caches and logs; their packages",)

    def apply(self, ground: Ground) -> Evidence:
        """Also asks the new release what it is: its user model is needed by the way back."""
        projects = {which: inspect(ground.manage(which), cancelled=ground.cancelled) for which in WHICH}
        left_out = {which: frozen.no_code(ground.plan, ground.release(which), projects[which]) for which in WHICH}
        digests = frozen.freeze(ground, left_out)
        ground.renew("freeze", {**digests, "left_out": left_out})
        project = projects["new"]
        ground.renew("project", project.as_json())
        ground.renew(surroundings.FACT, {"names": surroundings.names_set(ground.plan, project.environment)})
        return Evidence(
            f"old {digests['old'][:12]}, new {digests['new'][:12]}; Django {project.django}{frozen.alike(digests)}",
            {**digests, "django": project.django},
        )


def planned_migrations(said: str) -> list[str]:
    """The labels that `migrate --plan` lists, `app.0002_name`. What an application prints as it starts comes before."""
    return _MIGRATION_LINE.findall(said.partition("Planned operations:")[2])


class MigratePlan(Verb):
    """`manage.py migrate --plan` of the new release, run against the live database: it only reads."""

    name = "migrate-plan"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The runbook's command."""
        return (command((*plan.releases.new.manage, "migrate", "--plan")).shown(),)

    def revert(self, step: PlannedStep) -> PlannedStep:
        """The login is left where a kill came before it went."""
        return PlannedStep(
            f"undo-{step.id}", "drop-login", "Remove the migration's login", "rollback", on_failure="ask"
        )

    def apply(self, ground: Ground) -> Evidence:
        """The list is written down: the window's migration is compared with it.

        It is asked for by the very login that will migrate, which so is tried while the site is still open: a server
        may let in none but the roles that its pg_hba.conf names. Then it goes; the window makes it again.
        """
        recorded = read_records(ground.target)  # before: what comes after it is seen at the gate
        if not ground.plan.application.has_login:
            result = ground.manage("new").run("migrate", "--plan", cancelled=ground.cancelled)
        else:
            try:
                result = migrating(ground).run("migrate", "--plan", cancelled=ground.cancelled)
            finally:
                drop_login(ground)
        pending = planned_migrations(result.stdout)
        ground.renew("pending", {"migrations": pending, "recorded": recorded})
        if not pending:
            return Evidence("no migration is pending: the schema stays as it is", {"migrations": []})
        return Evidence(f"{len(pending)} migrations: {some(pending)}", {"migrations": pending})


class DropLogin(Verb):
    """Remove the migration's login where it was only tried."""

    name = "drop-login"

    def apply(self, ground: Ground) -> Evidence:
        """A step that was done has removed it itself: then the database is not asked, for it may be away."""
        kinds = [entry.kind for entry in since_abort(ground.ledger.entries) if entry.step == "migrate-plan"]
        if [kind for kind in kinds if kind.startswith("step.")][-1:] == ["step.done"]:  # the newest run's
            return Evidence("it is gone already")
        drop_login(ground)
        return Evidence("the migration's login is removed")
