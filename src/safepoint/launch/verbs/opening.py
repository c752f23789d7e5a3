"""Verbs that let people in again: checkpoints, canary, green, watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import read_proof
from safepoint.checkpoints import backup as backup_checkpoint
from safepoint.checkpoints import database
from safepoint.checkpoints import router as router_checkpoint
from safepoint.checkpoints.checkpoint import Checkpoint, timed, worst
from safepoint.checkpoints.chromium import Chromium
from safepoint.checkpoints.login import login
from safepoint.checkpoints.pages import health
from safepoint.config import Login, PlanFile, format_duration
from safepoint.errors import LockNotAvailable, RouterError
from safepoint.launch import error_logs
from safepoint.launch.ground import Ground, since_abort
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.application import which
from safepoint.launch.verbs.prepare import snapshot_folder
from safepoint.launch.verbs.readying import BROWSER
from safepoint.launch.wayback import captured, following
from safepoint.postgres.connections import connect
from safepoint.progress import Progress
from safepoint.routers import RouterState
from safepoint.wayback.capture import capture
from safepoint.wayback.capture.spool import durable_end


class Look:
    """One look at all checkpoints after another; each goes on in the error logs where the one before it ended."""

    def __init__(
        self, ground: Ground, let_in: RouterState | None = None, logs: error_logs.Reading | None = None
    ) -> None:
        """`let_in`: what the router was told; None before anybody is let in, or where it cannot say."""
        self.ground, self._let_in = ground, let_in
        self.logs = logs or error_logs.Reading(ground)

    def now(self, *, with_login: bool) -> list[Checkpoint]:
        """All checkpoints. One that could not look has failed, it is never left out."""
        ground, limits = self.ground, self.ground.plan.checkpoints
        release = ground.release("new")
        upstream = f"http://{release.upstream}"
        found = [health(upstream, release.health, public_url=ground.router.url)]
        if (let_in := self._let_in) is not None:
            found.append(timed("router", "Router", lambda: router_checkpoint.look(ground.router, let_in)))
        found.append(timed("size", "Database size", lambda: _size(ground)))
        found.append(timed("connections", "Connections", lambda: _connections(ground)))
        found += self.logs.now()
        found.append(timed("backup", "Backup", lambda: _backup(ground)))
        if (captured := ground.fact("capture")) is not None and captured["mode"] != "none":
            found.append(timed("capture", "Capture", lambda: _capture(ground)))
        if with_login and limits.login is not None:
            found.append(self._login(upstream, limits.login))
        return found

    def _login(self, upstream: str, settings: Login) -> Checkpoint:
        """In the browser that was started before the window, where it is still there."""
        ground = self.ground
        standby = ground.background.take(BROWSER, Chromium)
        try:
            return login(
                upstream,
                settings,
                public_url=ground.router.url,
                screenshots=ground.folder / "screenshots",
                standby=standby,
            )
        finally:
            if standby is not None:
                standby.dismiss()


def _size(ground: Ground) -> Checkpoint:
    baseline = (ground.fact("baseline") or {}).get("size")
    with connect(ground.target) as connection:
        return database.size(connection, baseline=baseline, growth=ground.plan.checkpoints.size_growth)


def _connections(ground: Ground) -> Checkpoint:
    with connect(ground.target) as connection:
        return database.connections(connection, share=ground.plan.checkpoints.connections_share)


def _capture(ground: Ground) -> Checkpoint:
    """What came since is taken off the server, so that it does not pile up there until a rollback wants it."""
    facts = capture.CaptureFacts.from_json(dict(ground.need("capture")))
    spool = ground.folder / "spool"
    try:
        spooled = capture.drain(ground.target, facts, spool, cancelled=ground.cancelled).total_transactions
    except LockNotAvailable as error:
        if error.subject != str(spool):
            raise
        # The follower is at it, and a giant transaction takes it long: what the server keeps says whether too long.
        spooled = durable_end(spool).transactions
    failure = ground.background.failure(following.WORK)
    follower = None if failure is None else str(getattr(failure, "message", failure))
    return captured.look(ground.plan, ground.target, facts, spooled, follower=follower)


def _backup(ground: Ground) -> Checkpoint:
    """By its age when the site was closed, which no later one can make up for: of what was before it this is the last.

    By its age now, a long migration would be taken back for it, and a watch of two hours end in the middle. It was
    taken before that, whatever the clock says that was set in between: a question would keep the site closed.
    """
    folder = snapshot_folder(ground, "final")
    manifest = read_manifest(folder)
    closed_at = _closed_at(ground)
    return backup_checkpoint.backup(
        taken_at=manifest.taken_at,
        size_bytes=manifest.total_bytes,
        proven=read_proof(folder) is not None,
        now=datetime.now(UTC) if closed_at is None else max(closed_at, manifest.taken_at),
        max_age=ground.plan.snapshot.max_age,
    )


def _closed_at(ground: Ground) -> datetime | None:
    closed = [e for e in since_abort(ground.ledger.entries) if e.kind == "step.done" and e.step == "stop-traffic"]
    return closed[-1].when if closed else None


def _evidence(found: list[Checkpoint], **facts: Any) -> Evidence:
    verdict = worst(found)
    not_passed = [point for point in found if point.verdict != "pass"]
    summary = (
        f"{len(found)} checkpoints pass"
        if not not_passed
        else "; ".join(f"{point.title}: {point.verdict}, {point.detail}" for point in not_passed)
    )
    return Evidence(summary, {"checkpoints": [point.as_json() for point in found], **facts}, verdict)


class Checkpoints(Verb):
    """Every checkpoint against the new release, without traffic. The gate after it decides."""

    name = "checkpoints"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The list."""
        return ("health, size, connections, error log, backup, login + form",)

    def apply(self, ground: Ground) -> Evidence:
        """A failed checkpoint is evidence and no failed step: the gate says what follows from it."""
        found = _evidence(Look(ground).now(with_login=True))
        return Evidence(found.summary, {**found.facts, "worst": found.verdict})


def _canary(ground: Ground) -> RouterState | None:
    return RouterState("split", ground.release("new").upstream) if ground.router.tells_split else None


def look_again(ground: Ground) -> dict[str, Any]:
    """The checkpoints as they are now, with the canary in: the evidence of a gate that is tried again.

    What the logs had before stays a doubt. Neither is one harmless line a no-go for ever, nor to be asked again a go.
    """
    earlier = [ground.evidence("canary") or {}, *(doubt["evidence"] for doubt in _doubts(ground))]
    told = [evidence["logs"] for evidence in earlier if "logs" in evidence]
    look = Look(ground, _canary(ground), error_logs.Reading(ground, told, excused=False))
    found = look.now(with_login=False)
    return _evidence(found, logs=look.logs.marks()).as_json()


class Canary(Verb):
    """A share of the clients is let in and watched; the others see the maintenance page."""

    name = "canary"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The split."""
        return (f"{plan.router.kind}: {plan.canary.percent} % of clients to {plan.releases.new.upstream}, sticky",)

    def apply(self, ground: Ground) -> Evidence:
        """Watched for the plan's time; an error ends the canary early."""
        upstream, percent = ground.release("new").upstream, ground.plan.canary.percent
        router = ground.router
        router.split(upstream, percent)
        state = router.state()
        if router.tells_split and (state.mode != "split" or state.upstream != upstream):
            raise RouterError(
                "The router did not take the canary.",
                expected=f"{percent} % to {upstream}",
                found=str(state.as_json()),
                remedy="Look at the router, then `safepoint retry`.",
            )
        look = Look(ground, _canary(ground))
        found = _watched(ground, _after(ground.plan.canary.hold.total_seconds()), every=1.0, look=look)
        evidence = _evidence(found, percent=percent, seen=router.tells_split, logs=look.logs.marks())
        hold = format_duration(ground.plan.canary.hold.total_seconds())
        by = "" if router.tells_split else ", by the word of its command (the router has none for `state`)"
        return Evidence(
            f"{percent} % let in for {hold}{by}: {evidence.summary}",
            {**evidence.facts, "worst": evidence.verdict},
        )


class OpenTraffic(Verb):
    """Everyone is let in to one release."""

    name = "open-traffic"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The router's order."""
        release = plan.releases.new if which(params) == "new" else plan.releases.old
        return (f"{plan.router.kind}: everyone to {release.upstream}",)

    def apply(self, ground: Ground) -> Evidence:
        """Idempotent: opening again is harmless."""
        release, router = ground.release(which(ground.step.params)), ground.router
        router.open(release.upstream)
        kept = f"; write {release.upstream} into the router's configuration, too: its restart brings back what is there"
        lasting = kept if router.forgets and which(ground.step.params) == "new" else ""
        return Evidence(f"everyone is on {release.version}{lasting}", router.state().as_json())

    def verify(self, ground: Ground, evidence: Evidence) -> None:
        """Read the state back from the router."""
        release = ground.release(which(ground.step.params))
        state = ground.router.state()
        if state.mode != "open" or state.upstream not in (None, release.upstream):
            raise RouterError(
                f"The router was told to let everyone in to {release.version}, and it does not.",
                expected=f"open to {release.upstream}",
                found=str(state.as_json()),
                remedy="Look at the router, then `safepoint retry`.",
            )


class Watch(Verb):
    """The checkpoints, again and again, while everyone is in."""

    name = "watch"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """How long and how often."""
        every, duration = plan.watch.every.total_seconds(), plan.watch.duration.total_seconds()
        long = f"until {params['until'][11:16]}" if "until" in params else f"for {format_duration(duration)}"
        return (f"all checkpoints every {format_duration(every)} {long}",)

    def apply(self, ground: Ground) -> Evidence:
        """A failed checkpoint makes a question to a person: roll back, end the watch, or watch on (`retry`): then for
        what is left of its time, and by what the logs say from there on.
        """
        watch = ground.plan.watch
        before = _doubts(ground)
        told = [doubt["evidence"]["logs"] for doubt in before if "logs" in doubt["evidence"]]
        look = Look(ground, RouterState("open", ground.release("new").upstream), error_logs.Reading(ground, told))
        until = ground.step.params.get("until")
        if until is None:  # while it was a question, nobody watched
            end = _after(watch.duration.total_seconds() - sum(doubt["seconds"] for doubt in before))
        else:
            end = _after(0.0) if ground.hurry else _at(datetime.fromisoformat(until))
        found = _watched(ground, end, every=watch.every.total_seconds(), look=look)
        evidence = _evidence(found)
        if evidence.verdict == "pass":
            return evidence
        return Evidence(evidence.summary, {**evidence.facts, "logs": look.logs.marks(), "again": True}, "inconclusive")


def _doubts(ground: Ground) -> list[Mapping[str, Any]]:
    """Of this step, each of which a person has answered with `retry`."""
    tried = since_abort(ground.ledger.entries)
    return [e.data for e in tried if e.kind == "step.failed" and e.step == ground.step.id and "evidence" in e.data]


End = Callable[[], float]
"""How many seconds are left; asked at each look."""


def _after(seconds: float) -> End:
    """So long from now, whatever becomes of the clock."""
    until = time.monotonic() + seconds
    return lambda: until - time.monotonic()


def _at(until: datetime) -> End:
    """At that hour, also where the clock is set, or the machine sleeps, meanwhile."""
    return lambda: (until - datetime.now(UTC)).total_seconds()


def _watched(ground: Ground, end: End, *, every: float, look: Look) -> list[Checkpoint]:
    """The newest checkpoints after watching; ends early when one fails."""
    begun = time.monotonic()
    while True:
        found = look.now(with_login=False)
        passed, left = time.monotonic() - begun, max(0.0, end())
        ground.report(Progress("watching", passed, passed + left, "s"))
        if left <= 0.0 or worst(found) == "fail":
            return found
        ground.pause(min(every, left))
