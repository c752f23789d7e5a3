"""Verbs of the window's first half: close the site, fence the database, make the twin, prove that it was quiet."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from safepoint.config import PlanFile, format_bytes, format_duration
from safepoint.errors import DatabaseError, RouterError
from safepoint.launch import error_logs
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.gates import refuse_old_go
from safepoint.launch.verbs.migrate import drop_login
from safepoint.launch.wayback import following, levelling, twin_choice
from safepoint.launch.wayback.moved import fence_there
from safepoint.wayback.fence import fence, quiet
from safepoint.wayback.fence.login import close_migration_login
from safepoint.wayback.twin import twin

_CLOSED_SECONDS: Final = 3.0


class StopTraffic(Verb):
    """The router answers 503 with Retry-After; a look from outside proves it."""

    name = "stop-traffic"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The router's order and the look."""
        return (f"{plan.router.kind}: answer 503, Retry-After", f"GET {plan.router.url} -> 503")

    def revert(self, step: PlannedStep) -> PlannedStep:
        """Open the site on the old release."""
        return PlannedStep(
            f"undo-{step.id}",
            "open-traffic",
            "Open the site again on the old release",
            "rollback",
            params={"release": "old"},
            on_failure="ask",
        )

    def apply(self, ground: Ground) -> Evidence:
        """What the error logs hold from here on is the launch's."""
        if ground.step.phase == "stop":
            refuse_old_go(ground)
        error_logs.note(ground, "closed")
        for work in (twin_choice.WORK, following.WORK):  # the fence waits for them
            ground.background.stop(work)
        ground.router.close(f"{ground.plan.launch.application} is being updated")
        return Evidence("the site answers 503 with Retry-After", ground.router.state().as_json())

    def verify(self, ground: Ground, evidence: Evidence) -> None:
        """Ask as a user would, for a moment: a router that takes an order may still answer by its old configuration, or
        drop a connection."""
        until = time.monotonic() + _CLOSED_SECONDS
        status, retry_after = _ask(ground.router.url)
        while (status != 503 or not retry_after) and time.monotonic() < until:
            ground.pause(0.1)
            status, retry_after = _ask(ground.router.url)
        if status != 503 or not retry_after:
            raise RouterError(
                "The site was closed, and nobody answers there now."
                if status is None
                else "The site was closed, and it still lets people in.",
                subject=ground.router.url,
                expected="503 with Retry-After",
                found=f"{status}, Retry-After {retry_after!r}",
                remedy="Look at the router, then `safepoint retry`."
                if ground.step.phase == "rollback"
                else "Look at the router; `safepoint abort` opens the site again as it was.",
            )


def _ask(url: str) -> tuple[int | None, str | None]:
    """The status and Retry-After; None where nobody answers. Redirects are followed, for users' browsers do, too."""
    # A proxy of the environment would answer for a site that it does not know, or knows from before.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:  # the router's own URL, from the plan
            return answer.status, answer.headers.get("Retry-After")
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get("Retry-After")
    except (OSError, http.client.HTTPException):
        return None, None


def fence_name(ground: Ground) -> str:
    """Under which name the standing fence's prior state is recorded.

    A rollback during the window finds the launch's own fence standing: what it recorded is what was before. After
    the launch opened the database again, the rollback has a fence of its own.
    """
    return "back-fence" if ground.fact("unfenced") is not None else "fence"


class Fence(Verb):
    """Everyone but the conductor is kept from writing: a read-only default, no login, ended sessions."""

    name = "fence"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The three holds."""
        roles = tuple(f"ALTER ROLE {role} NOLOGIN" for role in fenced_roles(plan))
        return (
            f"ALTER DATABASE {plan.database.name} SET default_transaction_read_only = on",
            *roles,
            "pg_terminate_backend(every other session)",
        )

    def revert(self, step: PlannedStep) -> PlannedStep:
        """Let the application write again."""
        return PlannedStep(
            f"undo-{step.id}", "unfence", "Let the application write again", "rollback", on_failure="ask"
        )

    def apply(self, ground: Ground) -> Evidence:
        """What was before is in the ledger before anything is changed."""
        maintenance = ground.plan.database.maintenance
        name = fence_name(ground)
        levelling.pause(ground)  # its sessions would be ended, and come back
        ground.background.end(following.WORK)
        if ground.fact(name) is None:
            found = fence.survey_fence(ground.target, fenced_roles(ground.plan), maintenance=maintenance)
            ground.record(name, found.as_json())
        prior = fence.FencePrior.from_json(dict(ground.need(name)))
        if ground.step.phase == "rollback":
            close_migration_login(ground.target, ground.launch_id, maintenance=maintenance)
        facts = fence.close(ground.target, prior, maintenance=maintenance)
        fence_there(ground, fenced_roles(ground.plan))
        # In the window, nobody may have written from here on; prove-quiet holds this against the mark.
        if name == "fence" and ground.step.phase != "rollback" and ground.fact("quiet-mark") is None:
            ground.record(
                "quiet-mark", quiet.mark_quiet(ground.target, ground.launch_id, maintenance=maintenance).as_json()
            )
        roles = ", ".join(facts.closed_logins) or "no role"
        return Evidence(
            f"read-only, {roles} locked out, {facts.ended_sessions} sessions ended in {format_duration(facts.seconds)}",
            facts.as_json(),
        )

    def verify(self, ground: Ground, evidence: Evidence) -> None:
        """Look once more that it stands."""
        maintenance = ground.plan.database.maintenance
        prior = fence.FencePrior.from_json(dict(ground.need(fence_name(ground))))
        state = fence.standing(ground.target, prior, maintenance=maintenance)
        if not state.holds:
            raise DatabaseError(
                "The fence was put up, and it does not hold.",
                subject=ground.plan.database.name,
                expected="read-only, no login of the application, no session",
                found=json.dumps(state.as_json()),
                remedy="`safepoint retry` puts it up again; `safepoint abort` opens the site as it was.",
            )


def fenced_roles(plan: PlanFile) -> tuple[str, ...]:
    """The roles that lose their login. Where the migration must log in as the application, they keep it."""
    return plan.database.application_roles if plan.application.has_login else ()


class Unfence(Verb):
    """The fence's holds are taken back to exactly what was before."""

    name = "unfence"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The inverse of the fence."""
        return ("the fence's three holds, back to what was recorded before",)

    def apply(self, ground: Ground) -> Evidence:
        """Where no fence was ever recorded there is nothing to take back."""
        name = fence_name(ground)
        recorded = ground.fact(name)
        if recorded is None:
            return Evidence("no fence stands")
        prior = fence.FencePrior.from_json(dict(recorded))
        fence.reopen(ground.target, prior, maintenance=ground.plan.database.maintenance)
        drop_login(ground)  # the migration's own, which nothing needs once the application may log in again
        quiet.drop_quiet_slot(ground.target, ground.launch_id, maintenance=ground.plan.database.maintenance)
        if ground.step.phase != "rollback":
            ground.record("unfenced", {"fence": name})
            following.begin(ground)
        roles = ", ".join(prior.logins) or "the application"
        return Evidence(f"{roles} may log in and write again", {"logins": list(prior.logins)})


class Twin(Verb):
    """The copy of the database at the safe point, which the way back swaps in."""

    name = "twin"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The copy."""
        copied = (f"CREATE DATABASE ... TEMPLATE {plan.database.name}", "settings, grants and owner copied")
        if plan.wayback.twin == "template":
            return copied
        return (*copied, "or, where it was kept level: replay what came last, set sequences, compare definitions")

    def revert(self, step: PlannedStep) -> PlannedStep:
        """The twin is of no use when the launch does not take place."""
        return PlannedStep(f"undo-{step.id}", "drop-twin", "Remove the twin", "rollback", on_failure="ask")

    def apply(self, ground: Ground) -> Evidence:
        """A twin that a kill left half made is made again: its name is recorded before."""
        maintenance = ground.plan.database.maintenance
        # Writes have stopped: this is the instant that the way back leads to, and the first one recorded stays.
        if ground.fact("safe-point") is None:
            ground.record("safe-point", {"lsn": quiet.safe_point(ground.target, maintenance=maintenance)})
        level = levelling.take_over(ground)
        if level is not None:
            ground.record("twin", level.as_json())
            seconds = format_duration(level.seconds)
            where = "" if level.server is None else f" on {level.server}"
            said = f"safe point {level.at}; the level twin{where} took what came last in {seconds}{_lacking(level)}"
            return Evidence(said, level.as_json())
        before = _quiet_before_copy(ground)
        facts = twin.make_twin(
            ground.target,
            ground.twin,
            ground.launch_id,
            at=ground.need("safe-point")["lsn"],
            prior=fence.FencePrior.from_json(dict(ground.need("fence"))),
            maintenance=maintenance,
            cancelled=ground.cancelled,
        )
        if before is not None and ground.fact("quiet-after-copy") is None:
            own = facts.transactions or None if before["this_time"] else None
            mark_ = quiet.mark_again(ground.target, _quiet_mark(ground, "quiet-mark"), maintenance=maintenance)
            ground.record("quiet-after-copy", {"mark": mark_.as_json(), "own": own})
        ground.record("twin", facts.as_json())
        fallen_back = twin_choice.given_up(ground)
        why = "" if fallen_back is None else f" (it could not be kept level: {fallen_back})"
        return Evidence(
            f"safe point {facts.at}; twin of {format_bytes(facts.size_bytes)} in "
            f"{format_duration(facts.copy_seconds)}{why}{_lacking(facts)}",
            {**facts.as_json(), "fallen_back": fallen_back},
        )


def _lacking(facts: twin.TwinFacts) -> str:
    return "".join(f"; {note}" for note in facts.notes)


def _quiet_mark(ground: Ground, fact: str) -> quiet.QuietMark:
    data = dict(ground.need(fact))
    return quiet.QuietMark.from_json(data.get("mark", data))


def _quiet_before_copy(ground: Ground) -> dict[str, Any] | None:
    """The proof up to here, where there is no slot that could tell the copy's own transactions from others'.

    None where there is a slot: it proves everything at once, after the copy.
    """
    mark_ = _quiet_mark(ground, "quiet-mark")
    if mark_.slot is not None:
        return None
    known = ground.fact("quiet-before-copy")
    if known is not None:
        return {**known, "this_time": False}
    found = quiet.prove_quiet(ground.target, mark_, maintenance=ground.plan.database.maintenance)
    here = quiet.mark_again(ground.target, mark_, maintenance=ground.plan.database.maintenance)
    fact = ground.record("quiet-before-copy", {"proof": found.as_json(), "mark": here.as_json()})
    return {**fact, "this_time": True}


class DropTwin(Verb):
    """Remove the twin of a launch that does not take place."""

    name = "drop-twin"

    def apply(self, ground: Ground) -> Evidence:
        """Only a database that says it is this launch's twin is dropped."""
        pair = ground.standing
        gone = twin.drop_twin(pair.twin, ground.twin, ground.launch_id, maintenance=pair.twin_maintenance)
        return Evidence("the twin is removed" if gone else "there was no twin")


class ProveQuiet(Verb):
    """No transaction other than the conductor's committed between the fence and the safe point."""

    name = "prove-quiet"

    def apply(self, ground: Ground) -> Evidence:
        """By logical decoding where the server can, else by transaction ids and counters, around the copy."""
        maintenance = ground.plan.database.maintenance
        before, after = ground.fact("quiet-before-copy"), ground.fact("quiet-after-copy")
        if before is None or after is None:
            found = quiet.prove_quiet(ground.target, _quiet_mark(ground, "quiet-mark"), maintenance=maintenance)
            return Evidence(found.summary, found.as_json(), found.verdict)
        behind = _quiet_mark(ground, "quiet-after-copy")
        found = quiet.around_copy(
            quiet.Quiet(**before["proof"]),
            behind.next_xid - _quiet_mark(ground, "quiet-before-copy").next_xid,
            after["own"],
            quiet.prove_quiet(ground.target, behind, maintenance=maintenance),
        )
        return Evidence(found.summary, found.as_json(), found.verdict)
