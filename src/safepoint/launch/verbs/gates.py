"""The gates: go / no-go decisions by rule over what the ledger proves. No data is never a go."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile, format_duration
from safepoint.django.pending import Pending, read_pending
from safepoint.errors import LockNotAvailable, NeedsPerson, Refused
from safepoint.launch import frozen
from safepoint.launch.clocks import APART, clock_ahead
from safepoint.launch.ground import WHICH, Ground, since_abort
from safepoint.launch.judging import Reason, judge
from safepoint.launch.ledger import Entry
from safepoint.launch.plan import GRACE
from safepoint.launch.recorded import ran_since, read_records
from safepoint.launch.rehearsal.rehearsals import rehearsals_of
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.opening import look_again
from safepoint.launch.verbs.prepare import taken_at
from safepoint.launch.wayback import twin_choice
from safepoint.launch.wayback.proof_standing import PROOF, capture_reasons, read_tables, way_back_reasons
from safepoint.postgres.connections import connect
from safepoint.wayback.capture import capture_mode, slot
from safepoint.wayback.fence.obstacles import in_the_way
from safepoint.wayback.settings import NotOurs, not_ours


def snapshot_reasons(
    proof: Mapping[str, Any] | None, stored: Mapping[str, Any] | None, age: timedelta | None, limit: timedelta
) -> list[Reason]:
    """What the final snapshot says: proven, stored, young enough."""
    reasons: list[Reason] = [
        ("fail", "the final snapshot is not proven") if proof is None else ("pass", "the final snapshot is proven"),
        ("fail", "it is in no store") if stored is None else ("pass", "it is stored and read back"),
    ]
    if age is None:
        reasons.append(("inconclusive", "its age is not known"))
    elif age < -APART:
        reasons.append(("inconclusive", f"its age is not known, it is {_to_come(age)}"))
    elif age > limit:
        shown = format_duration(age.total_seconds())
        reasons.append(("fail", f"it is {shown} old, and {format_duration(limit.total_seconds())} is allowed"))
    else:
        reasons.append(("pass", f"it is {format_duration(max(0.0, age.total_seconds()))} old"))
    return reasons


def _to_come(age: timedelta) -> str:
    """Of what was taken later than it is now."""
    return f"{format_duration(-age.total_seconds())} from being taken: this machine's clock was set back since"


def rehearsal_reasons(
    found: Sequence[Mapping[str, Any]], pending: Pending, now: datetime, limit: timedelta, command: str
) -> list[Reason]:
    """Whether these very migrations, by the content of their files, were rehearsed well and on data of today. Pure.

    Args:
        found: the release's rehearsals as their files have them, the newest first.
        command: what makes another one.
    """
    if not pending.migrations:
        return [("pass", "no migration is pending: there is nothing to rehearse")]
    these = next((one for one in found if one["digest"] == pending.digest), None)
    if these is None and not found:
        return [("fail", f"the migrations were not rehearsed; run `{command}`")]
    if these is None:
        known = {one["label"]: one["sha256"] for one in found[0]["migrations"]}
        changed = [one.label for one in pending.migrations if known.get(one.label) != one.sha256]
        gone = [label for label in known if label not in pending.labels]
        names = ", ".join([*changed, *(f"{label} (no longer pending)" for label in gone)]) or "their order"
        return [("fail", f"other migrations were rehearsed; they differ in {names}: run `{command}`")]
    made = f"the rehearsal of {these['made_at'][:16]}"
    reasons: list[Reason] = []
    if these["verdict"] != "go":
        why = "; ".join(these["reasons"])
        reasons.append(("fail", f"{made} says no-go ({why}); mend that, then run `{command}`"))
    age = now - datetime.fromisoformat(these["snapshot"]["taken_at"])
    if age < -APART:
        reasons.append(("fail", f"{made} has a snapshot that is {_to_come(age)}: run `{command}`"))
    elif age > limit:
        shown, allowed = format_duration(age.total_seconds()), format_duration(limit.total_seconds())
        reasons.append(("fail", f"{made} has a snapshot {shown} old, {allowed} is allowed: run `{command}`"))
    return reasons or [("pass", f"these {len(pending.migrations)} migrations were rehearsed on the data of the day")]


def lateness_reasons(at: str | None, now: datetime) -> list[Reason]:
    """Whether the window begins when people were told that it would. Pure.

    A conductor that was dead, or a machine that slept, may be gone on with at any hour of the day; and what was to be
    done before may have taken longer than the timetable has for it.

    Args:
        at: when the gate was to be reached; None where nothing waits for a time.
    """
    late = timedelta(0) if at is None else now - datetime.fromisoformat(at)
    if late <= GRACE:
        return []
    return [("inconclusive", f"the window was to begin at {at}, {format_duration(late.total_seconds())} ago")]


def clock_reasons(ahead: float) -> list[Reason]:
    """Whether this machine knows the hour; the launch may have been gone on with from another one. Pure.

    Args:
        ahead: seconds that its clock is before the server's.
    """
    if abs(ahead) <= APART.total_seconds():
        return []
    by, which = format_duration(abs(ahead)), "ahead of" if ahead > 0 else "behind"
    return [
        (
            "inconclusive",
            f"this machine's clock is {by} {which} the server's: by that one the window would begin at another time "
            "than people were told; set it (NTP)",
        )
    ]


def early_reasons(ran: Sequence[str]) -> list[Reason]:
    """Whether migrations ran before the window, since they were listed. Pure.

    The safe point would have the new schema then, or a part of it, and the way back would lead the old release there.

    Args:
        ran: of those that were listed, what the database has recorded since.
    """
    if not ran:
        return []
    labels = ", ".join(ran[:5]) + (f" and {len(ran) - 5} more" if len(ran) > 5 else "")
    return [
        (
            "fail",
            f"{labels} ran since `migrate-plan` listed what is pending (by hand, or by a command that starts the new "
            "release?): the way back would lead the old release to the new schema. Undo it with `migrate`, and see to "
            "it that nothing but the launch migrates",
        )
    ]


def staying_reasons(found: Sequence[tuple[str, float]]) -> list[Reason]:
    """Whether a transaction of another database would end the launch with the site closed, when all is migrated. Pure.

    Args:
        found: see `slot.staying_open`.
    """
    if not found:
        return []
    oldest, age = found[0]
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    wait = format_duration(slot.MAKE_SECONDS)
    return [
        (
            "inconclusive",
            f"a transaction has been writing for {format_duration(age)} and is open ({oldest}{others}): the capture "
            f"begins once all of the cluster have ended, and waits {wait} for them, with the site closed; let it end "
            "first",
        )
    ]


def lacking_reasons(found: Sequence[NotOurs]) -> list[Reason]:
    """What the old release, or the migration, would do without, for no role but a superuser may set it. Pure."""
    if not found:
        return []
    names, grants = ", ".join(map(str, found[:3])), "; ".join(sorted({one.grant for one in found}))
    return [
        (
            "inconclusive",
            f"settings that are not ours to set ({names}) would be missing after a rollback, or where migrations run; "
            f"as a superuser: {grants};",
        )
    ]


def _ran_early(ground: Ground) -> list[str]:
    """What was recorded besides (a tenant who came since has all former migrations) is no concern of the launch."""
    listed = ground.fact("pending") or {}
    if "recorded" not in listed:  # by an earlier version
        return []
    ran = ran_since(listed["recorded"], read_records(ground.target))
    return [label for label in ran if label in listed["migrations"]]


def _rehearsed(ground: Ground, pending: Pending | None) -> list[Reason]:
    settings = ground.plan.rehearsal
    if not settings.required or pending is None:
        return [("waived", "not rehearsed by the plan's choice ([rehearsal] required = false)")]
    command = shlex.join(["safepoint", "rehearse", "--plan", str(ground.plan.path)])
    found = rehearsals_of(ground.plan)
    reasons = rehearsal_reasons(found, pending, datetime.now(UTC), settings.max_age, command)
    these = next((one for one in found if one["digest"] == pending.digest), None)
    if these is None:
        return reasons
    changed = frozen.since_rehearsal(ground, Path(these["folder"]), these.get("code"))
    if changed is not None:
        why = f"the code that migrations may run is not what was rehearsed: {changed}; `{command}` rehearses it"
        reasons.append(("inconclusive", why))
    return reasons + rehearsed_way_back(these["way_back"], ground.plan, command)


def rehearsed_way_back(found: Mapping[str, Any] | None, plan: PlanFile, command: str) -> list[Reason]:
    """What a rehearsal has seen of a way back that is not the plan file's of now. Pure.

    It may have been made by hand, by another plan file of this state folder or by this one as it was then.
    """
    if found is None or not plan.wayback.prove or not found["proven"]:
        return []
    if found.get("mappers", plan.wayback.mappers) == plan.wayback.mappers:
        return []
    return [("fail", f"the rehearsal was made by other mappers than [wayback.tables] has now: run `{command}`")]


def frozen_reasons(ground: Ground) -> list[Reason]:
    """Whether the code is what was frozen, and what of it is not."""
    fact = ground.need("freeze")
    reasons: list[Reason] = []
    for which in WHICH:
        changed = frozen.changes(ground, which, fact.get("left_out", {}).get(which, []), fact[which])
        if changed is not None:
            reasons.append(("fail", f"the code of the {which} release changed since the freeze: {changed}"))
    return reasons or [("pass", f"the code is as it was frozen{frozen.alike(fact)}")]


class GateStop(Verb):
    """May the window begin? Backups proven and young, the migrations rehearsed, code unchanged since the freeze."""

    name = "gate-stop"

    def apply(self, ground: Ground) -> Evidence:
        """Looks at the world again where it may have changed: the code, the clock."""
        reasons = _for_the_window(ground)
        if not ground.hurry:
            reasons += lateness_reasons(ground.step.at, datetime.now(UTC)) + clock_reasons(
                clock_ahead(ground.maintenance)
            )
        return judge(reasons, by_person=ground.plan.gates.stop == "person")


def _for_the_window(ground: Ground) -> list[Reason]:
    """All that the gate before it goes by, but for the hour."""
    taken = taken_at(ground, "final")
    age = None if taken is None else datetime.now(UTC) - taken
    reasons = snapshot_reasons(
        ground.evidence("final-proof"), ground.evidence("final-store"), age, ground.plan.snapshot.max_age
    )
    reasons += frozen_reasons(ground)
    reasons += early_reasons(_ran_early(ground))
    proof, plan = ground.fact(PROOF), ground.plan
    proven = plan.wayback.prove and proof is not None and bool(proof["proven"])
    pending = read_pending(ground.manage("new")) if plan.rehearsal.required or proven else None
    reasons += _rehearsed(ground, pending)
    digest = None if pending is None else pending.digest
    try:
        reasons += way_back_reasons(proof, plan, digest, read_tables(ground.target) if proven else None)
    except LockNotAvailable as error:
        reasons.append(
            ("inconclusive", f"whether the way back was proven on this schema is not known: {error.message}")
        )
    with connect(ground.target) as connection:
        mode, why = capture_mode.foresee(connection, plan.wayback.capture)
        reasons += capture_reasons(mode, why, plan)
        if mode == "logical":
            reasons += staying_reasons(slot.staying_open(connection))
        reasons += lacking_reasons(not_ours(connection, plan.database.name, plan.database.application_roles[:1]))
    database = plan.database
    held = in_the_way(ground.target, roles=database.application_roles, maintenance=database.maintenance)
    if held is not None:
        reasons.append(
            ("inconclusive", f"{held}; what follows would be refused, or wait, with the site closed: see to it first")
        )
    doubt = twin_choice.doubt(ground)
    if doubt is not None:
        reasons.append(("inconclusive", doubt))
    return reasons


def refuse_old_go(ground: Ground) -> None:
    """A go for the window holds for as long as a launch may be late: its conductor may die after it, or its machine be
    suspended, and be gone on with hours later, when nobody expects the site to close.

    Raises:
        NeedsPerson: it is older; whoever answers `retry` has said it anew.
        Refused: the gate would say no-go now.
    """
    said = _said_go(ground.ledger.entries)
    age = datetime.now(UTC) - said
    if abs(age) <= GRACE or (ground.begun_before and ground.router.state().mode != "open"):
        return  # where the site is closed already, the window has begun
    found = judge(_for_the_window(ground), by_person=False)
    at = f"{said.astimezone(ground.plan.launch.timezone):%Y-%m-%d %H:%M}"
    when = f"{format_duration(age.total_seconds())} ago ({at})"
    if age < timedelta(0):
        when = f"at {at}, by a clock that was set back since: nobody knows how long ago"
    given = f"The go for the window was given {when}"
    if found.verdict == "fail":
        raise Refused(
            f"{given}, and it would not be given now: {found.summary}",
            subject=ground.step.id,
            remedy="The site was not closed, what was prepared is taken back. `safepoint launch --again` begins anew.",
        )
    doubts = "" if found.verdict == "pass" else f" Now it is {found.summary}."
    raise NeedsPerson(
        f"{given}. The site is still open.{doubts}",
        subject=ground.step.id,
        remedy="`safepoint retry` closes it now, `safepoint abort` takes back what was prepared.",
    )


def _said_go(entries: Sequence[Entry]) -> datetime:
    """When the gate, or a person at or after it, said go last: a word may have been given before anybody took it."""
    tried = since_abort(entries)
    gate = [e.when for e in tried if e.step == "gate-stop" and e.kind == "step.done"]
    words = [e for e in tried if e.kind == "order" and e.data["fate"] == "taken" and e.data["order"] in ("go", "retry")]
    return max([*gate, *(min(e.when, datetime.fromisoformat(e.data.get("at", e.at))) for e in words)])


def checkpoint_reasons(evidence: Mapping[str, Any] | None) -> list[Reason]:
    """The checkpoints of a step, each a reason."""
    if evidence is None:
        return [("inconclusive", "no checkpoint has been run")]
    return [(point["verdict"], f"{point['title']}: {point['detail']}") for point in evidence["checkpoints"]]


class GateCanary(Verb):
    """May the first clients come in? By the checkpoints that were run without traffic."""

    name = "gate-canary"

    def apply(self, ground: Ground) -> Evidence:
        """By the evidence of the step before."""
        reasons = checkpoint_reasons(ground.evidence("checkpoints"))
        verdict = judge(reasons, by_person=ground.plan.gates.canary == "person")
        return _counted(verdict, reasons)


class GateGreen(Verb):
    """May everyone come in? By what the canary showed; where there is none, by the checkpoints."""

    name = "gate-green"

    def apply(self, ground: Ground) -> Evidence:
        """By the evidence of the canary, or of the step `of`: then it is the first gate that lets people in."""
        shown_by, gates = ground.step.params.get("of", "canary"), ground.plan.gates
        people = {gates.green} if shown_by == "canary" else {gates.canary, gates.green}
        # Tried again it looks again: by what was seen before, a no-go would be one for ever.
        again = shown_by == "canary" and ground.begun_before
        shown = look_again(ground) if again else ground.evidence(shown_by)
        reasons = checkpoint_reasons(shown)
        verdict = judge(reasons, by_person="person" in people)
        seen = {"logs": shown["logs"]} if again and shown is not None else {}
        return _counted(replace(verdict, facts={**verdict.facts, **seen}), reasons)


def _counted(evidence: Evidence, reasons: Sequence[Reason]) -> Evidence:
    """A go over many checkpoints is said in a few words."""
    if evidence.verdict != "pass":
        return evidence
    return Evidence(f"go: {len(reasons)} of {len(reasons)} checkpoints pass", evidence.facts)
