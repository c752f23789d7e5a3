"""What a fence that was put up on a copy says about the one of the launch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from safepoint.config import format_duration
from safepoint.errors import SafepointError
from safepoint.rehearsal.checks import Check, Verdict
from safepoint.wayback.fence.fence import FenceFacts, FencePrior, FenceState
from safepoint.wayback.fence.quiet import Quiet
from safepoint.wayback.fence.stand_in import Stood

FENCE: Final = "fence"
QUIET: Final = "proof of quiet"
OTHERS: Final = "other logins"
OPENED: Final = "fence opened again"
OLD_STOP: Final = "stop command of the old release"


@dataclass(frozen=True)
class Others:
    """Logins that are not the application's, and may write to the database all the same. `elsewhere` are superusers."""

    writers: tuple[str, ...]
    superusers: tuple[str, ...]


def judge_fence(
    prior: FencePrior, facts: FenceFacts, state: FenceState, stood: Sequence[Stood], superusers: Sequence[str]
) -> Check:
    """Whether it kept the sessions out that stood in for the application's.

    Args:
        superusers: those of the application's roles.
    """
    faults = [*_not_standing(state), *(said for one in stood for said in _got_through(one, prior))]
    if faults:
        remedy = "Give the application a role of its own that is no superuser, and name all of its roles in "
        return Check(
            FENCE, "fail", f"it does not hold: {'; '.join(faults)}. {remedy}database.application_roles.", tuple(faults)
        )
    doubts = [*_doubts(stood), *facts.notes, *_come_back(stood, facts)]
    told = [
        f"closed in {format_duration(facts.seconds)}: {', '.join(facts.closed_logins) or 'no role'} locked out, "
        f"{facts.ended_sessions} sessions ended",
        *(_seen(one) for one in stood if not one.fault),
        *(f"{role} is a superuser: only that it cannot log in holds it" for role in superusers if role in prior.logins),
        *(f"{one.role}'s own default_transaction_read_only is set aside meanwhile" for one in prior.role_settings),
    ]
    return Check(FENCE, "warning" if doubts else "pass", "; ".join([*doubts, *told]), tuple(doubts))


def _not_standing(state: FenceState) -> list[str]:
    if state.holds:
        return []
    words = [] if state.read_only else ["the database is not read-only by default"]
    words += [f"{role} can still log in" for role in state.open_logins]
    return words + [f"{role} may write by its own setting" for role in state.writable_roles]


def _got_through(one: Stood, prior: FencePrior) -> list[str]:
    found = [f"a session as {one.role} wrote {one.wrote_inside} times behind it"] if one.wrote_inside else []
    if one.got_in and one.role in prior.logins:
        found.append(f"{one.role} could log in {one.got_in} times")
    return found


def _doubts(stood: Sequence[Stood]) -> list[str]:
    found = [f"nobody could stand in for {one.role}: {one.fault}" for one in stood if one.fault]
    if not stood:
        found.append(
            "none of database.application_roles can log in, so that nobody stood in for the application: does it log "
            "in as another role?"
        )
    return found


def _come_back(stood: Sequence[Stood], facts: FenceFacts) -> list[str]:
    """Who came back after the fence had been found quiet: a client may wait longer between two tries than it looks."""
    told = {session.role for session in facts.returning}
    roles = ", ".join(sorted({one.role for one in stood if one.got_in} - told))
    return [f"Sessions of {roles} keep coming back; they are read-only by default."] if roles else []


def _seen(one: Stood) -> str:
    """What the sessions of a role were doing, and what became of them."""
    before = f"{one.role} had committed {one.wrote} times" if one.wrote else f"{one.role} had sessions"
    held = ", held a write open" if one.held else ""
    after = f"was refused {one.refused} times ({one.refusal})" if one.refused else "did not come back"
    if one.got_in:
        after = f"came back {one.got_in} times, and was refused each of {one.read_only} writes"
    return f"{before}{held}, and {after}"


def judge_quiet(found: Quiet) -> Check:
    """The proof of quiet from the fence to behind the safe point. On a copy there is nobody who could disturb it."""
    verdicts: Mapping[str, Verdict] = {"pass": "pass", "fail": "fail"}
    weaker = found.evidence.get("weaker_because")
    said = f"{found.summary.rstrip('.')}; there is only weaker evidence, as {weaker}" if weaker else found.summary
    return Check(QUIET, verdicts.get(found.verdict, "warning"), said)


def judge_others(others: Others) -> Check:
    """Who else may write while the fence stands: held by a default alone."""
    free = ", ".join(others.superusers)
    also = f"; superusers may at any time ({free})" if free else ""
    if not others.writers:
        return Check(OTHERS, "pass", f"no login but the application's may write to the database{also}")
    names = ", ".join(others.writers)
    return Check(
        OTHERS,
        "warning",
        f"held only by a read-only default that they can set back: {names}{also}. Do these belong to the application, "
        "or to jobs that write? Then name them in database.application_roles.",
        others.writers,
    )


def judge_opened(before: FencePrior, after: FencePrior, kept_out: Mapping[str, str], seconds: float) -> Check:
    """Whether all is as it was before the fence, and the application can log in and write."""
    faults = [f"{role} cannot write: {said}" for role, said in kept_out.items()]
    if before != after:
        faults.insert(0, f"it was {before.as_json()}, and is {after.as_json()}")
    if faults:
        return Check(OPENED, "fail", f"not as before: {'; '.join(faults)}", tuple(faults))
    return Check(OPENED, "pass", f"in {format_duration(seconds)}, and everything is as before")


def broken(name: str, error: SafepointError) -> Check:
    """The launch's own code refused or failed: so it would on the day."""
    # Nothing is under way that could be retried.
    remedy = (error.remedy or "").replace("`safepoint retry`", "rehearse again")
    parts = [error.message, error.found, remedy]
    return Check(name, "fail", " ".join(part for part in parts if part))


def left_out() -> Check:
    """Roles belong to a whole server."""
    why = "others use the scratch server as well, and a fence closes roles that may be theirs"
    return Check(FENCE, "not rehearsed", f"not rehearsed: {why}")


def old_not_stopped(version: str) -> Check:
    """The one thing of the stop that no copy can show."""
    return Check(
        OLD_STOP,
        "not rehearsed",
        f"not rehearsed: the stop command of {version}, because it would stop the live site; sessions of our own stood "
        "in for the application's",
    )
