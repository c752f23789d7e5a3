"""Verbs that carry transactions back across the schema change: the mapping proven before the window, and the replay.

A rollback carries only by a mapping that was proven on the user's own data before the launch: the proven snapshot is
restored twice, one copy is migrated, and every migrated row must come back as the row that it was. Where that was not
proven, for whatever reason, what was written since the safe point is listed and nothing is carried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from safepoint.backup.restoring import Restored, restored
from safepoint.config import PlanFile, format_duration
from safepoint.django.address import unled
from safepoint.django.inspector import IDENTITY
from safepoint.django.managepy import Manage, redirect
from safepoint.django.migrations import migrate
from safepoint.django.operations import Operations, read_operations
from safepoint.django.pending import Pending, read_pending
from safepoint.errors import (
    CommandFailed,
    DatabaseError,
    LockNotAvailable,
    Refused,
    ResourcesExhausted,
    ServerAway,
    StatementEnded,
)
from safepoint.hosts import command
from safepoint.hosts.lending import NotLent, lends, lent
from safepoint.launch.ground import Ground
from safepoint.launch.patience import is_away
from safepoint.launch.snapshots.snapshots import scratch_of
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.prepare import snapshot_folder
from safepoint.launch.wayback.carried import carried_before
from safepoint.launch.wayback.moved import live_now
from safepoint.launch.wayback.proof_standing import (
    CARRIED_BY,
    PROOF,
    accepted,
    in_words,
    proven_mapping,
    refuse_unproven,
)
from safepoint.launch.wayback.proving import Proven, prove_way_back, unproven
from safepoint.launch.wayback.waybacks import keep_way_back
from safepoint.launch.whose import own_mark
from safepoint.postgres.connections import connect
from safepoint.postgres.encrypting import OFFERED
from safepoint.postgres.scratch_databases import MAINTENANCE, base
from safepoint.postgres.target import Target
from safepoint.rehearsal.ground import copy_of
from safepoint.wayback.door import entering
from safepoint.wayback.fence.login import migration_login
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack, changed_rules, untouched_as_now
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.replay import records
from safepoint.wayback.replay.manner import Manner
from safepoint.wayback.replay.merging import left_sequences
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import READ_ONLY, carry
from safepoint.wayback.sessions import asking
from safepoint.wayback.stash.stash import read_stashes
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import drop_twin

_FILLED_VIEWS: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 1
"""


class ProveWayBack(Verb):
    """On copies of the proven snapshot: migrate one, and take every row of it back to what it was."""

    name = "prove-way-back"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The migration of a copy, and the comparison."""
        return (
            command((*plan.releases.new.manage, "migrate", "--noinput")).shown() + "  (on a restored copy)",
            "each migrated row by the mapping against the row that it was",
        )

    def check(self, ground: Ground) -> Evidence | None:
        """The launch's own rehearsal has migrated a copy already, and proven it there."""
        proof = ground.fact(PROOF)
        if proof is None or not ground.plan.wayback.prove or not ground.is_of_this_run(PROOF):
            return None
        if not proof["proven"]:
            return _told(ground, unproven(*proof["reasons"]))
        tables = len(proof["mapping"]["tables"])
        said = f"proven in the rehearsal: every migrated row of {tables} tables comes back as it was"
        return Evidence(said, {"proven": True, "tables": tables})

    def apply(self, ground: Ground) -> Evidence:
        """Without a proof a rollback lists instead of carrying: this step ends the launch, unless that was accepted, or
        a person has given it up since the launch began, whose plan stands.
        """
        if not ground.plan.wayback.prove:
            said = "not proven by the plan's choice ([wayback] prove = false): a rollback lists and carries nothing"
            return Evidence(said, {"proven": False})
        reason = _cannot_try(ground)
        if reason is not None:
            return _unproven(ground, [reason])
        try:
            operations = read_operations(ground.manage("new"), cancelled=ground.cancelled)
        except CommandFailed as error:
            return _unproven(ground, [f"the migrations' operations cannot be read: {error.message}"])
        folder = snapshot_folder(ground, "prelaunch")
        with restored(
            folder,
            scratch_parent=ground.scratch,
            scratch=scratch_of(ground.plan),
            roles=ground.plan.database.application_roles,
            jobs=ground.plan.snapshot.jobs,
            cancelled=ground.cancelled,
            settings=OFFERED,
        ) as scratch:
            try:
                there = scratch.target
                with lent(ground.application_host, there.host, there.port, cancelled=ground.cancelled) as port:
                    found, digest = _on_copy(ground, scratch, operations, port)
            except NotLent as error:
                return _unproven(ground, [error.message])
        return record_proof(ground, found, digest)


def _on_copy(ground: Ground, scratch: Restored, operations: Operations, port: int) -> tuple[Proven, str | None]:
    """The proof on a restored copy, which the release reaches at this port; and of which migrations, by content."""
    pointed = _pointed_at(ground, replace(_login(ground, scratch), port=port))
    try:
        pending = read_pending(pointed)
    except CommandFailed as error:
        return unproven(f"the application cannot be started against the copy: {error.message}"), None
    why_not = elsewhere(pending, _identity(scratch.target))
    if why_not is not None:
        return unproven(why_not), pending.digest
    before = copy_of(scratch.target, "safepoint_before")
    try:
        migrate(pointed, cancelled=ground.cancelled)
    except CommandFailed as error:
        # The same migration would fail in the window. Better to know a day before.
        raise CommandFailed(
            f"The migration fails on a copy of the data: {error.message}",
            subject=error.subject,
            remedy="Nothing live was touched. Mend the migration or the data, then `safepoint retry`.",
        ) from error
    found = prove_way_back(
        ground.plan,
        before,
        scratch.target,
        operations,
        keep=partial(_keep, ground),
        cancelled=ground.cancelled,
    )
    return found, pending.digest


def record_proof(ground: Ground, found: Proven, digest: str | None) -> Evidence:
    """What a rollback goes by; the first proof of a run stays.

    Args:
        digest: names the migrations that it was proven of, by content.

    Raises:
        Refused: nothing was proven, and nobody has accepted that.
    """
    waived = None if found.proven else accepted(ground.plan)
    ground.renew(PROOF, {**found.as_fact(), "digest": digest, **({"waived": waived} if waived else {})})
    return _told(ground, found)


def _told(ground: Ground, found: Proven) -> Evidence:
    if found.proven:
        return Evidence(found.summary(), found.as_json())
    refuse_unproven(ground.plan, found.doubts, ground.step.id)
    waived = accepted(ground.plan) or {}
    facts = {"proven": False, "reasons": list(found.doubts), "waived": waived}
    return Evidence(f"{found.summary()}; {in_words(waived)}", facts)


def _keep(ground: Ground, schemas: Schemas, **found: Any) -> None:
    """For `safepoint plan --way-back`."""
    release, source = ground.release("new").version, own_mark(ground.plan)
    keep_way_back(ground.folder, release=release, by="proof", source=source, schemas=schemas, **found)


def _cannot_try(ground: Ground) -> str | None:
    if ground.plan.application.fixed:
        return f"the application cannot be pointed at a copy: {unled(ground.plan.application)}"
    if ground.plan.scratch is None and not lends(ground.application_host):
        return "the copy is on the conductor's machine, where the application's container does not reach it"
    return None


def _identity(copy: Target) -> str | None:
    with connect(copy) as connection:
        row = connection.execute(IDENTITY.encode()).fetchone()
    return None if row is None else str(row[0])


def elsewhere(pending: Pending, identity: str | None) -> str | None:
    """Why a migration might write to something else than the database that the application was pointed at: then it
    must not be run before the launch. None where it is there, and has no other one. Pure."""
    if identity is None or pending.identity != identity:
        return "the application does not go to the database that it is pointed at; nothing was migrated"
    if pending.exposed:
        names = ", ".join(repr(one.alias) for one in pending.exposed)
        return f"the application has other databases ({names}), which a migration of the copy might write to"
    return None


def _unproven(ground: Ground, reasons: list[str]) -> Evidence:
    return record_proof(ground, unproven(*reasons), None)


def _login(ground: Ground, copy: Restored) -> Target:
    """Where others use the scratch server as well, the release is not its superuser."""
    if not copy.shared:
        return copy.target
    owner = ground.plan.database.application_roles[0]
    return migration_login(copy.target, base(copy.target.dbname) or "", owner, maintenance=MAINTENANCE)


def _pointed_at(ground: Ground, target: Target) -> Manage:
    # `database_address` is where the application reaches the live server (by a pooler, perhaps), and not the copy's.
    env, secrets = redirect(ground.plan.application.model_copy(update={"database_address": None}), target)
    return Manage(ground.application_host, ground.release("new"), env=env, secrets=secrets)


class Carry(Verb):
    """What was committed since the launch, carried into the twin by the proven mapping."""

    name = "carry"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The replay."""
        return ("replay the capture into the twin: staged by COPY, compacted by key, one transaction",)

    def apply(self, ground: Ground) -> Evidence:
        """One transaction with its LSN in it: a kill repeats nothing. What cannot be carried stays in the list."""
        proof = ground.fact(PROOF)
        if ground.discards:
            return _listed_only(ground, "--discard was ordered")
        if proof is None or not proof["proven"]:
            waived = (proof or {}).get("waived")
            but = f", {in_words(waived)}" if waived else ""
            return _listed_only(ground, f"the way back was not proven before the launch{but}")
        if (ground.fact("capture") or {}).get("mode", "none") == "none":
            return _listed_only(ground, "the changes could not be captured")
        try:
            return _carried(ground, proof)
        except ServerAway:
            raise  # tried again once it is back: nothing was changed in the twin
        except (LockNotAvailable, ResourcesExhausted, StatementEnded) as error:
            return _mendable(ground, error)
        except (DatabaseError, Refused) as error:
            if is_away(ground):  # a standby in its place refuses all that is written: nothing is given up for that
                once = "Once a server that writes answers, `safepoint retry`."
                raise ServerAway(error.message, found=error.found, remedy=once) from error
            # Nothing was changed in the twin: the site must come back, and all is listed.
            return _listed_only(ground, f"{error.message} (nothing was changed in the twin)", error.as_json())


def _carried(ground: Ground, proof: Mapping[str, Any]) -> Evidence:
    pair = ground.standing
    twin, maintenance = pair.twin, pair.twin_maintenance
    mapping = WayBack.from_json(dict(proof["mapping"]))
    with (
        entering(twin, maintenance) as before,
        connect(ground.target, application_name="safepoint replay", options=READ_ONLY) as after,
    ):
        with asking("Comparing the schemas", twin.dbname):
            operations = Operations.from_json(dict(proof["operations"]))
            old, new = read_catalogue(before), read_catalogue(after)
            # The plan file may be at the next launch by now.
            mappers = proof.get("mappers", ground.plan.wayback.mappers)
            now = plan_mapping(old, new, operations, mappers)
            mapping = untouched_as_now(mapping, now, old)
            sequences = left_sequences(before, after, old)
            views = [str(row[0]) for row in before.execute(_FILLED_VIEWS).fetchall()]
        if changed := changed_rules(mapping, now):
            raise Refused(
                f"the schemas are not those that the way back was proven on: other rules for {', '.join(changed[:5])}",
                subject=ground.twin,
                remedy="Compare `safepoint report` with the databases; what was written is in affected.csv.",
            )
        if mapping != proven_mapping(ground):
            ground.renew(CARRIED_BY, {"mapping": mapping.as_json()})
        drained = (ground.evidence("back-drain") or {}).get("drained") or {}
        outcome = carry(
            before,
            after,
            ground.folder / "spool",
            mapping,
            Manner(ground.plan.wayback.policy, waiting=_waiting(ground)),
            launch_id=ground.launch_id,
            up_to=drained.get("up_to"),  # what is carried is what is listed
            catalogues=(old, new),  # the site is closed, and nobody gets in but us
            cancelled=ground.cancelled,
            report=ground.report,
        )
    stale = views if outcome.carried else []
    # Refreshing takes as long as their queries do: with the site open, and by whoever refreshes them otherwise.
    refresh = "; ".join(f"REFRESH MATERIALIZED VIEW {view}" for view in stale)
    told = f"; materialised views are as at the safe point: {refresh}" if stale else ""
    if sequences:
        told += (
            f"; sequences are as at the safe point, for the new release has none of the name: {', '.join(sequences)}"
        )
    return Evidence(
        _summary(outcome) + told,
        {
            **outcome.as_json(),
            "carried": outcome.carried,
            "listed": outcome.transactions - outcome.carried,
            "stale_views": stale,
            "left_sequences": list(sequences),
        },
    )


def _waiting(ground: Ground) -> tuple[Path, ...]:
    return tuple(one.rows for one in read_stashes(ground.plan.state) if one.taken_by == ground.launch_id)


def _summary(outcome: Outcome) -> str:
    """How many came back, and how many of them while the site was open."""
    before, took = outcome.transactions - outcome.now, format_duration(outcome.seconds)
    when = f": {before} while the site was open, {outcome.now} in {took}" if before else f" in {took}"
    listed = outcome.transactions - outcome.carried
    return f"{outcome.carried} of {outcome.transactions} transactions carried back{when}" + (
        (f"; {listed} listed with their reason" if listed else "")
        + (f"; {outcome.dangling} rows name one that was not carried" if outcome.dangling else "")
        + (f"; {outcome.passed_over} rows that nobody wrote have no place any more" if outcome.passed_over else "")
        + (f"; the old schema got the partitions {', '.join(outcome.made)}, as made since" if outcome.made else "")
    )


def _listed_only(ground: Ground, reason: str, error: Mapping[str, Any] | None = None) -> Evidence:
    facts = {"carried": 0, "reason": reason, "error": error}
    before = carried_before(ground)
    if before is None:
        return Evidence(f"nothing is carried, all is listed: {reason}", facts)
    return Evidence(f"nothing more is carried: {reason}; {_stay(before)}", {**facts, **before})


def _stay(before: Mapping[str, Any]) -> str:
    return f"{before['carried']} transactions were carried into the twin before and stay there, the others are listed"


def _mendable(ground: Ground, error: DatabaseError) -> Evidence:
    """What a person can mend is no reason to carry nothing: the person is asked, and the site is closed meanwhile."""
    before = carried_before(ground)
    without = ", and lists it" if before is None else f": {_stay(before)}"
    return Evidence(
        f"{error.message} PostgreSQL said: {error.found}. {error.remedy} Nothing was changed, and the spool has "
        f"everything: `safepoint retry` carries it once that is mended; `safepoint go` opens the site without "
        f"it{without}",
        {"carried": 0, "reason": error.message, "error": error.as_json(), **(before or {})},
        "inconclusive",
    )


class ForgetReplay(Verb):
    """The replay's own records leave the database that is live again; their copies stand beside the ledger."""

    name = "forget-replay"

    def apply(self, ground: Ground) -> Evidence:
        """Nothing of Safepoint stays in the live database; nor, on another server, a twin that was given up."""
        gone = records.remove(live_now(ground), ground.launch_id)
        told = "the replay's records are removed" if gone else "there are none"
        given_up = ground.pair
        if given_up.apart and not ground.standing.apart:
            told += f"; {_dropped(given_up)}"
        return Evidence(told)


def _dropped(given_up: Pair) -> str:
    """Remove a level twin that the window did not wait for; its server may still be away, and people are in."""
    name, server = given_up.twin.dbname, given_up.server
    try:
        found = drop_twin(given_up.twin, name, given_up.launch_id, maintenance=given_up.twin_maintenance)
    except DatabaseError as error:
        return f"{name} may still be on {server} ({error.message}): `safepoint retire` removes it"
    return f"{name} is removed from {server}" if found else f"there is no twin on {server}"
