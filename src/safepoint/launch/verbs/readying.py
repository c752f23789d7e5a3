"""What the window would wait for is started just before it: each start of Django or of a browser takes a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg

from safepoint.checkpoints.chromium import Chromium
from safepoint.checkpoints.login import stand_by
from safepoint.config import PlanFile, Release
from safepoint.django.managepy import Manage
from safepoint.django.standby import Standby
from safepoint.errors import SafepointError
from safepoint.hosts import Command, Host
from safepoint.launch.asking import answers
from safepoint.launch.ground import Ground, Which
from safepoint.launch.ordered import may_be_stopping, starting, stopping
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.postgres.connections import OWN_NAMES, cancellable, connect

CACHE: Final = "manage.py for the cache"
CHECK: Final = "manage.py for migrate --check"
BROWSER: Final = "the browser"

_PATIENCE: Final = 20.0
"""Seconds that all of it may take to get ready. What is not ready then is started when it is needed."""


def waiting(what: str, release: Which) -> str:
    """The name under which a release's process waits. Pure."""
    return f"{what}, {release}"


class Ready(Verb):
    """Processes that load the application, and a browser, wait for the window's steps. Nothing live is touched."""

    name = "ready"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is started."""
        browser = ("a browser for the login",) if plan.checkpoints.login is not None else ()
        return (f"{' '.join(plan.releases.new.manage)} shell, waiting", *browser, "CHECKPOINT")

    def apply(self, ground: Ground) -> Evidence:
        """Never fails: a step that finds nothing ready does without, and only takes longer."""
        begun = time.monotonic()
        standby = Standby(ground.manage("new"))
        ground.background.keep(waiting(CACHE, "new"), standby)
        browser = _browser(ground)
        wrote = _checkpoint(ground)
        ready = {CACHE: _wait(ground, standby, begun)}
        if browser is not None:
            ready[BROWSER] = _wait(ground, browser, begun)
        late = [name for name, is_ready in ready.items() if not is_ready]
        said = f"; not ready, and started when needed: {', '.join(late)}" if late else ""
        names = " and ".join(name for name, is_ready in ready.items() if is_ready)
        return Evidence(
            f"{names or 'nothing'} waits for the window{said}", {"ready": ready, "checkpoint_seconds": wrote}
        )


def _checkpoint(ground: Ground) -> float | None:
    """What the server has not written to disk yet it writes now, and not beside the migration, or before a copy.

    Seconds; None where the conductor's role may not order it (a superuser may, from 15 on a member of pg_checkpoint).
    """
    began = time.monotonic()
    try:
        with (
            connect(ground.maintenance, application_name="safepoint ready", options=OWN_NAMES) as connection,
            cancellable(connection, ground.cancelled),  # with much to write it takes long
        ):
            connection.execute("CHECKPOINT")
    except (psycopg.Error, SafepointError):
        return None
    return round(time.monotonic() - began, 3)


class ReadyOld(Verb):
    """On the way back the old release loads while the data is carried; the fence still keeps it out of the database."""

    name = "ready-old"

    def apply(self, ground: Ground) -> Evidence:
        """Begun, and not waited for: the site is closed, and every second counts."""
        manage, release = ground.manage("old"), ground.release("old")
        server = ground.plan.wayback.server
        if ground.goes_elsewhere and server is not None and server.lead is not None:
            return Evidence(f"{release.version} is loaded once the application is led to {ground.standing.server}")
        ground.background.keep(waiting(CACHE, "old"), Standby(manage))
        ground.background.keep(waiting(CHECK, "old"), Standby(manage))
        if not (ground.plan.releases.new.stage and ground.plan.application.has_login):
            # It cannot stand beside the new one, or would get into the migrated database.
            return Evidence(f"{release.version} loads for what comes after the swap")
        if _is_there(ground, "old"):
            return Evidence(f"{release.version} is being stopped still; it is started once that is over")
        order = ground.order("old", release.start)
        ground.background.begin(starting(ground, "old"), lambda: _start(ground.application_host, release, order))
        return Evidence(f"{release.version} is started meanwhile, without traffic and without the database")


def _is_there(ground: Ground, which: Which) -> bool:
    """Whether it has not gone yet, or may still be stopped by an order of before: a start would come to nothing."""
    release = ground.release(which)
    if may_be_stopping(ground, which) or ground.background.under_way(stopping(ground, which)):
        return True
    return answers(release.upstream, release.health, ground.router.url) is not None


def _start(host: Host, release: Release, order: Command) -> None:
    """The step that starts it for good runs the command again, and judges; here a failure means nothing yet."""
    with suppress(SafepointError):
        host.run(order, timeout=release.start_timeout.total_seconds())


def ready_to_check(ground: Ground, manage: Manage) -> None:
    """Load the application for `migrate --check` while the migration runs: it needs the migration's own login."""
    ground.background.keep(waiting(CHECK, "new"), Standby(manage))


def _browser(ground: Ground) -> Chromium | None:
    settings = ground.plan.checkpoints.login
    if settings is None:
        return None
    browser = stand_by(f"http://{ground.release('new').upstream}", settings, public_url=ground.router.url)
    if browser is not None:
        ground.background.keep(BROWSER, browser)
    return browser


def _wait(ground: Ground, process: Standby | Chromium, begun: float) -> bool:
    while time.monotonic() < begun + _PATIENCE:
        if process.ready(0.1):
            return True
        ground.pause(0.05)
    return False


def answered_clean(ground: Ground, release: Which) -> bool | None:
    """`migrate --check` by the process that has loaded the application; None where there is none any more."""
    standby = ground.background.take(waiting(CHECK, release), Standby)
    if standby is None:
        return None
    try:
        return bool(standby.ask("check", {})["clean"]) if standby.ready(5.0) else None
    finally:
        standby.dismiss()
