"""Verbs that act on the application: start and stop a release, its cache, its pages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from safepoint.config import PlanFile, Release, format_duration
from safepoint.django.cache import clear_caches
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed, SafepointError
from safepoint.hosts import command
from safepoint.launch import asking, error_logs
from safepoint.launch.ground import Ground, Which
from safepoint.launch.ordered import may_be_starting, may_be_stopping, starting, stopping
from safepoint.launch.patience import tell_waiting
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.readying import CACHE, waiting

_STOP_SECONDS = 120.0
_PART_SECONDS = 5.0
_CACHE_SECONDS = 30.0
"""For which a cache is tried again on the way back: its server is there again by then, or something else is wrong."""
_UNSTAGED = "One that needs the migrated database to start is not staged: take `stage` out of [releases.new]."


def which(params: Mapping[str, Any]) -> Which:
    """Which release a step is about."""
    return "new" if params["release"] == "new" else "old"


def _release(plan: PlanFile, params: Mapping[str, Any]) -> Release:
    return plan.releases.new if which(params) == "new" else plan.releases.old


def answers(ground: Ground, release: Release, path: str, *, timeout: float = 5.0) -> int | None:
    """See `asking.answers`."""
    return asking.answers(release.upstream, path, ground.router.url, timeout=timeout)


class StopRelease(Verb):
    """Run the release's stop command and see that nothing answers on its address any more."""

    name = "stop-release"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The release's own stop command."""
        return (command(_release(plan, params).stop).shown(),)

    def revert(self, step: PlannedStep) -> PlannedStep:
        """Start it again."""
        return PlannedStep(
            f"undo-{step.id}", "start-release", "Start the release again", "rollback", params=step.params
        )

    def apply(self, ground: Ground) -> Evidence:
        """Where the fence keeps the release from writing, the window does not wait for its processes to end."""
        release = ground.release(which(ground.step.params))
        if ground.step.params.get("wait", True):
            return _stopped(ground, which(ground.step.params))
        which_one = which(ground.step.params)
        ground.background.begin(stopping(ground, which_one), lambda: _order_stop(ground, which_one))
        return Evidence(f"{release.version} is told to stop; the window goes on meanwhile")


class ReleaseGone(Verb):
    """See that a release that was told to stop is gone, before the database lets its role in again."""

    name = "release-gone"

    def apply(self, ground: Ground) -> Evidence:
        """After a crash nobody knows of the order to stop any more: it is given again."""
        gone = _stopped(ground, which(ground.step.params))
        if ground.step.phase != "rollback":
            error_logs.note(ground, "open")
        return gone


def _order_stop(ground: Ground, which_one: Which) -> None:
    # Not to be cancelled: a release that is half stopped is worse than an order that waits a moment.
    release = ground.release(which_one)
    order = ground.order(which_one, release.stop)
    try:
        ground.application_host.run(order, timeout=_STOP_SECONDS)
    except CommandFailed as error:
        raise CommandFailed(
            f"{release.version} could not be stopped: {error.message}",
            subject=error.subject,
            expected=error.expected,
            found=error.found,
            remedy=f"Find out why its stop command fails (`{order.shown()}`); it must succeed also where nothing runs.",
        ) from error


def _stopped(ground: Ground, which_one: Which) -> Evidence:
    """The stop command is run even when nothing answers: a process may hang without answering."""
    release = ground.release(which_one)
    # One that is being started would come up when nobody looks any more.
    if not ground.background.join(starting(ground, which_one)) and may_be_starting(ground, which_one):
        with suppress(CommandFailed):  # the same order again waits for that of before, or is done at once
            timeout = release.start_timeout.total_seconds()
            ground.application_host.run(ground.order(which_one, release.start), timeout=timeout)
    try:
        if not ground.background.join(stopping(ground, which_one)):
            _order_stop(ground, which_one)
    except CommandFailed as error:
        if ground.step.phase != "rollback" or not _goes(ground, release):
            raise
        # The site is closed: a command that fails where nothing runs any more must not keep it so.
        said = (
            f"{error.message} Nothing answers on {release.upstream} any more: where its other processes are gone, too"
        )
        return Evidence(f"{said}, `safepoint go` goes on", {"error": error.as_json()}, "inconclusive")
    if not _goes(ground, release):
        raise CommandFailed(
            f"{release.version} was told to stop, and {release.upstream} still answers, or hangs.",
            subject=release.upstream,
            remedy=f"Stop it by hand, then `safepoint retry`. The command was: {command(release.stop).shown()}",
        )
    return Evidence(f"{release.version} is stopped", {"upstream": release.upstream})


def _goes(ground: Ground, release: Release) -> bool:
    def gone() -> Evidence | None:
        return Evidence("gone") if asking.is_gone(release.upstream, release.health, ground.router.url) else None

    return ground.until(15, 0.05, gone) is not None


def _end_stopping(ground: Ground, which_one: Which) -> None:
    """Before it is started: whatever still stops it would find it started, and healthy, and stop it then.

    That it could not be stopped does not matter any more.
    """
    with suppress(SafepointError):
        if may_be_stopping(ground, which_one) and not ground.background.under_way(stopping(ground, which_one)):
            _stopped(ground, which_one)
        elif ground.background.join(stopping(ground, which_one)):
            _goes(ground, ground.release(which_one))


class StartRelease(Verb):
    """Run the release's start command and wait until its health page answers 200."""

    name = "start-release"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The start command and the page that is asked."""
        release = _release(plan, params)
        return (command(release.start).shown(), f"GET http://{release.upstream}{release.health}")

    def apply(self, ground: Ground) -> Evidence:
        """Starting twice must be harmless: the plan file's start command promises that."""
        release = ground.release(which(ground.step.params))
        _end_stopping(ground, which(ground.step.params))
        # The same command at the same time would be one too many.
        ground.background.join(starting(ground, which(ground.step.params)))
        try:
            ground.application_host.run(
                ground.order(which(ground.step.params), release.start),
                cancelled=ground.cancelled,
                timeout=release.start_timeout.total_seconds(),
            )
        except CommandFailed as error:
            return _started_in_part(ground, release, error)
        begun = time.monotonic()
        seen: list[int | None] = []

        def healthy() -> Evidence | None:
            seen.append(answers(ground, release, release.health))
            return Evidence("healthy") if seen[-1] == 200 else None

        if ground.until(release.start_timeout.total_seconds(), 0.05, healthy) is None:
            raise CommandFailed(
                f"{release.version} was started, and its health page does not answer 200.",
                subject=f"http://{release.upstream}{release.health}",
                expected="200",
                found="no answer" if seen[-1] is None else str(seen[-1]),
                remedy="Look at the application's error log.",
            )
        waited = round(time.monotonic() - begun, 3)
        logged = None
        if ground.step.phase != "rollback" and any((status or 0) >= 500 for status in seen):
            logged = error_logs.note_healthy(ground)
        said = f"{release.version} answers on {release.upstream}"
        if logged is not None:
            said += f", after {format_duration(waited)} of answers that it could not: {logged}"
        return Evidence(said, {"upstream": release.upstream, "waited": waited})


def _started_in_part(ground: Ground, release: Release, error: CommandFailed) -> Evidence:
    """On the way back the site is closed, and nothing lies behind: one host of several that cannot be reached must not
    keep it so, where the release answers all the same."""

    def healthy() -> Evidence | None:
        return Evidence("healthy") if answers(ground, release, release.health) == 200 else None

    if ground.step.phase != "rollback" or ground.until(_PART_SECONDS, 0.05, healthy) is None:
        raise error
    return Evidence(
        f"{error.message} {release.version} answers well on {release.upstream} all the same: where that is enough (one "
        "host of several is away), `safepoint go` goes on; `safepoint retry` runs the command again",
        {"error": error.as_json()},
        "inconclusive",
    )


class Stage(Verb):
    """Start the new release without traffic before the window, so that its start costs the window nothing."""

    name = "stage"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The new release's start command."""
        return (command(plan.releases.new.start).shown(),)

    def revert(self, step: PlannedStep) -> PlannedStep:
        """Stop it."""
        return PlannedStep(
            f"undo-{step.id}", "stop-release", "Stop the new release", "rollback", params={"release": "new"}
        )

    def apply(self, ground: Ground) -> Evidence:
        """Any answer will do: the health page may well say 500 until the migration has run."""
        release = ground.release("new")
        if ground.begun_before:
            _stopped(ground, "new")  # what an earlier run has staged may have other code than what is frozen now
        if not release.stage:  # the launch keeps its steps, and the plan file was mended since
            return Evidence(f"{release.version} is not staged any more: the plan file has no `stage` for it by now")
        try:
            ground.application_host.run(
                ground.order("new", release.start),
                cancelled=ground.cancelled,
                timeout=release.start_timeout.total_seconds(),
            )
        except CommandFailed as error:
            error.remedy = f"{_UNSTAGED} {error.remedy or ''}".rstrip()
            raise
        up = ground.until(
            release.start_timeout.total_seconds(),
            0.05,
            lambda: Evidence("up") if answers(ground, release, release.health) else None,
        )
        if up is None:
            raise CommandFailed(
                f"{release.version} was started, and nothing answers on {release.upstream}.",
                subject=release.upstream,
                remedy=f"Look at the application's error log. The live release is not touched. {_UNSTAGED}",
            )
        return Evidence(f"{release.version} waits on {release.upstream}, without traffic")


class ClearCache(Verb):
    """Clear every cache of the application, and see that a key set before is gone after."""

    name = "clear-cache"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The configured management commands, and the cache's own clear."""
        manage = _release(plan, params).manage
        return tuple(command((*manage, *words)).shown() for words in plan.cache.clear)

    def apply(self, ground: Ground) -> Evidence:
        """A cache that cannot be cleared on the way back (its server is restarted) is tried again for a time."""
        try:
            return self._cleared(ground)
        except CommandFailed as error:
            if ground.step.phase != "rollback":
                raise
            failure = error

        def tried_again() -> Evidence | None:
            nonlocal failure
            try:
                return self._cleared(ground)
            except CommandFailed as error:
                failure = error
                return None

        said = failure.message.rstrip(".")
        tell_waiting(ground, f"the cache is not cleared ({said}); it is tried again", _CACHE_SECONDS)
        if (cleared := ground.until(_CACHE_SECONDS, 2.0, tried_again)) is not None:
            return cleared
        # The site is closed, and nothing lies behind a way back: a person may open it with what the cache has.
        said = f"the cache is not cleared: {failure.message} {failure.remedy or ''}".rstrip()
        return Evidence(f"{said} `safepoint go` goes on without that", {"error": failure.as_json()}, "inconclusive")

    def _cleared(self, ground: Ground) -> Evidence:
        """One start of Django for everything: each costs most of a second of the window."""
        release = which(ground.step.params)
        standby = ground.background.take(waiting(CACHE, release), Standby)
        try:
            cleared = clear_caches(
                ground.manage(release), ground.plan.cache.clear, cancelled=ground.cancelled, standby=standby
            )
        finally:
            if standby is not None:
                standby.dismiss()
        return Evidence(cleared.summary(), cleared.as_json())


class WarmCache(Verb):
    """Fetch the pages that should be fast for the first user."""

    name = "warm-cache"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Each page."""
        upstream = _release(plan, params).upstream
        return tuple(f"GET http://{upstream}{path}" for path in plan.cache.warm)

    def apply(self, ground: Ground) -> Evidence:
        """A page that answers with a server error is a failure; a redirect (to a login page) is warm enough."""
        release = ground.release(which(ground.step.params))
        pages: dict[str, Any] = {}
        for path in ground.plan.cache.warm:
            begun = time.monotonic()
            status = answers(ground, release, path, timeout=30)
            pages[path] = {"status": status, "seconds": round(time.monotonic() - begun, 3)}
            if status is None or status >= 500:
                raise CommandFailed(
                    f"The page {path} of {release.version} cannot be warmed.",
                    subject=f"http://{release.upstream}{path}",
                    expected="an answer below 500",
                    found="no answer" if status is None else str(status),
                    remedy="Look at the application's error log.",
                )
        return Evidence(f"{len(pages)} pages fetched", {"pages": pages})
