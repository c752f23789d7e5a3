"""The new release on the migrated copy: its checks, its caches, and its start command, with nothing live touched."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from safepoint.checkpoints.login import login
from safepoint.config import PlanFile, Release, format_bytes
from safepoint.django.managepy import Manage, last_words
from safepoint.django.pointing import only_pointing, to_copy
from safepoint.django.standby import Standby
from safepoint.django.wellness import Wellness, look_well, places_of
from safepoint.errors import CommandFailed, SafepointError
from safepoint.hosts import Command
from safepoint.launch.asking import answers
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import shared
from safepoint.postgres.servers import free_port
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.rehearsal import ground
from safepoint.rehearsal.checks import Check, judge_checkpoint
from safepoint.rehearsal.release import judge_caches, judge_release, why_not_started
from safepoint.wayback.fence.login import migration_login
from safepoint.wayback.names import migration_role

_START: Final = "start command"
_LOGIN: Final = "rehearsal-start"
_LOGIN_CHECK: Final = "login checkpoint"
_STOP_SECONDS: Final = 120.0
_GONE_SECONDS: Final = 15.0

# Sessions of the login that only the release has been given.
_SESSIONS = "select count(*) from pg_stat_activity where usename = %s and datname = %s"


@dataclass(frozen=True)
class OnCopy:
    """The release as it is pointed at a copy; `folder` is the rehearsal's own. `standby` is a process that waits."""

    plan: PlanFile
    manage: Manage
    copy: Target
    folder: Path
    cancelled: Cancelled
    standby: Standby | None = None


@dataclass(frozen=True)
class Works:
    """What was found, and why the release is not started (None: it may be).

    `seconds`: what took how long, by the name of the launch's step that does it.
    """

    checks: tuple[Check, ...]
    why_not: str | None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """What was found of the release once it was started, or why it was not; `seconds` as those of `Works`."""

    checks: tuple[Check, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)


def try_release(on: OnCopy) -> Works:
    """All that can be asked of it without starting it.

    Raises:
        Interrupted: it was cancelled.
    """
    release = on.plan.releases.new
    try:
        found = _looked(on)
    except CommandFailed as error:
        said = f"it cannot be started on the migrated copy: {error.message}"
        return Works((Check("the new release", "fail", said),), "its manage.py does not start there")
    why = _why_not(on, [one.name for one in found.caches if one.kind == "shared"])
    checks = judge_release(release.health, found.errors, found.pending, found.status, found.fault)
    caches = _caches(found)
    seconds = {"migrate-check": found.check_seconds}
    if caches.verdict in ("pass", "warning") and found.cleared is not None:
        seconds["cache"] = found.cleared.seconds  # else what was cleared were not the caches of the launch
    return Works((*checks, caches), why, seconds)


def _why_not(on: OnCopy, shared: Sequence[str]) -> str | None:
    release = on.plan.releases.new
    return why_not_started(
        release.start,
        here=on.plan.host(on.plan.application.host).kind == "here",
        open_port=release.at_port(0) is not None,
        shared=shared,
    )


def started_copy(on: OnCopy, size: int) -> OnCopy | str:
    """A copy for the release to be started on, gone with its server; or why it is not. Nobody may be connected.

    A copy of its own: a page that is fetched may write (a session), and the other one is compared.

    Args:
        size: bytes of the database.
    """
    if (why := _why_not(on, ())) is not None:
        return why
    if shared(on.copy):
        return "others use the scratch server as well, and its disk cannot be seen from here"
    free = shutil.disk_usage(on.folder).free
    if 2 * size > free:
        return f"another copy needs {format_bytes(size)}, and {format_bytes(free)} are free here"
    copy = ground.copy_of(on.copy, "safepoint_started")
    owner = on.plan.database.application_roles[0]
    login = migration_login(copy, _LOGIN, owner, maintenance="postgres")
    env, secrets = to_copy(on.plan.application, login)
    manage = replace(on.manage, env={**on.manage.env, **env}, secrets=secrets)
    return replace(on, copy=copy, manage=manage, standby=None)


def _looked(on: OnCopy) -> Wellness:
    """Where caches seem shared although the plan leads the rehearsal elsewhere, both releases are asked for theirs."""
    found = _look(on, None, on.standby)
    if not on.plan.rehearsal.env or all(one.kind != "shared" for one in found.caches):
        return found
    live: set[str] = set()
    try:
        for release in (on.plan.releases.new, on.plan.releases.old):
            env = only_pointing(on.plan.application, on.manage.env)
            there = Manage(on.manage.host, release, env, on.manage.secrets)
            live |= places_of(there, cancelled=on.cancelled)
    except CommandFailed:
        return found  # what is not known to be another one is taken for the live one
    return _look(on, live)


def _look(on: OnCopy, live: set[str] | None, standby: Standby | None = None) -> Wellness:
    return look_well(
        on.manage,
        on.plan.releases.new.health,
        urlsplit(on.plan.router.url).netloc,
        folder=str(on.folder),
        live=live,
        clear=on.plan.cache.clear,
        cancelled=on.cancelled,
        standby=standby,
    )


def _caches(found: Wellness) -> Check:
    cleared = () if found.cleared is None else found.cleared.caches
    return judge_caches(
        {one.alias: one.verdict for one in cleared},
        {one.alias: (one.name, one.kind) for one in found.caches},
        missing=() if found.cleared is None else found.cleared.unknown,
        left=found.left,
        fault=found.fault_of_clearing,
    )


def try_start(on: OnCopy | str, cancelled: Cancelled) -> Started:
    """The start command at a free port, its health page, the pages that warm the cache and the test user's visit, and
    the stop command."""
    on = on if isinstance(on, str) else replace(on, cancelled=cancelled)
    moved = None if isinstance(on, str) else on.plan.releases.new.at_port(free_port())
    if isinstance(on, str) or moved is None:
        return Started((Check(_START, "not rehearsed", f"not rehearsed: the start command, because {on}"),))
    seconds: dict[str, float] = {}
    with _sessions_of(on) as seen:
        try:
            checks = _answering(on, moved, seconds)
        except CommandFailed as error:
            checks = (Check(_START, "fail", f"{moved.version} does not start on the copy: {_said(error)}"),)
        finally:
            stopped = _stopped(on, moved)
    if checks[0].verdict == "pass" and not seen.is_set():
        doubt = "no session of it was seen on the copy: does the start command hand on its environment?"
        checks = (replace(checks[0], verdict="warning", summary=f"{checks[0].summary}; {doubt}"), *checks[1:])
    return Started((*checks, *stopped), seconds)


def _answering(on: OnCopy, moved: Release, seconds: dict[str, float]) -> tuple[Check, ...]:
    status, took = _begun(on, moved)
    if status != 200:
        said = "does not answer" if status is None else f"answers {status} and not 200"
        return (Check(_START, "fail", f"started on the copy, and {moved.health} {said} within {took:.0f} s"),)
    good = f"{moved.version} starts on the copy, at another port, and {moved.health} answers 200 after {took:.1f} s"
    seconds["start-new"] = round(took, 3)
    if moved.stage:  # it stands before the window, and there the command is given again
        status, again = _begun(on, moved)
        if status != 200:
            said = f"{good}; given again, as the launch does in its window, it leaves nothing that answers 200"
            return (Check(_START, "fail", said),)
        seconds.update({"stage-new": round(took, 3), "start-new": round(again, 3)})
        good += f", and {again:.1f} s after the command was given again"
    with _timed(seconds, "warm"):
        warmed = _warmed(on, moved)
    with _timed(seconds, "checkpoints"):
        visited = _logged_in(on, moved)
    if any(one.verdict == "not rehearsed" for one in visited):
        del seconds["checkpoints"]
    return Check(_START, "pass", good), warmed, *visited


def _begun(on: OnCopy, moved: Release) -> tuple[int | None, float]:
    """Give the start command; how the health page answers then (None: not at all), and after how many seconds."""
    began, limit = time.monotonic(), moved.start_timeout.total_seconds()
    on.manage.host.run(_order(on, moved, moved.start), cancelled=on.cancelled, timeout=limit)
    status: int | None = None
    while status != 200 and time.monotonic() < began + limit and not on.cancelled():
        status = answers(moved.upstream, moved.health, on.plan.router.url)
        time.sleep(0.0 if status == 200 else 0.05)
    return status, time.monotonic() - began


def _logged_in(on: OnCopy, moved: Release) -> tuple[Check, ...]:
    """The test user's visit, with its form: here it leaves its entry in the copy. Without a browser, which takes longer
    to start than all else here, unless the plan says that only one will do."""
    settings = on.plan.checkpoints.login
    if settings is None:
        return ()
    if settings.password_env not in os.environ:
        why = f"not rehearsed: the environment variable {settings.password_env} is not set"
        return (Check(_LOGIN_CHECK, "not rehearsed", why),)
    if settings.browser == "auto":
        settings = settings.model_copy(update={"browser": "http"})
    found = login(f"http://{moved.upstream}", settings, public_url=on.plan.router.url)
    # The live site is another release, on other data: nothing is found out there, and the copy is gone.
    helps = "That was the new release on the copy: is what [checkpoints.login] looks for what it shows now?"
    return (judge_checkpoint(_LOGIN_CHECK, found.verdict, found.detail, found.remedy and helps),)


def _warmed(on: OnCopy, moved: Release) -> Check:
    """As the launch does it: a server error is a fault, a redirect (to a login page) is warm enough."""
    paths = on.plan.cache.warm
    found = {path: answers(moved.upstream, path, on.plan.router.url, timeout=30) for path in paths}
    bad = [f"{path}: {status or 'no answer'}" for path, status in found.items() if status is None or status >= 500]
    if bad:
        return Check("pages to warm", "fail", f"cannot be warmed: {'; '.join(bad)}", tuple(bad))
    return Check("pages to warm", "pass", f"{len(paths)} pages answer" if paths else "no page is named")


def _stopped(on: OnCopy, moved: Release) -> tuple[Check, ...]:
    """Whatever came before: what was started here must not go on when its database is removed."""
    error = ""
    try:
        on.manage.host.run(_order(on, moved, moved.stop), timeout=_STOP_SECONDS)
    except SafepointError as failed:
        error = f": {_said(failed)}"
    deadline = time.monotonic() + _GONE_SECONDS
    while (up := answers(moved.upstream, moved.health, on.plan.router.url)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if up or error:
        left = f"it still answers at {moved.upstream}: end it by hand" if up else "nothing answers any more"
        return (Check("stop command", "fail", f"after the stop command {left}{error}"),)
    return (Check("stop command", "pass", "nothing answers any more after it"),)


def _said(error: SafepointError) -> str:
    """What went wrong, with the last words of the command."""
    return f"{error.message} {last_words(error.found)}" if error.found else error.message


def _order(on: OnCopy, moved: Release, words: tuple[str, ...]) -> Command:
    """With the variables that `manage.py` was given: they lead to the copy, and away from what is live."""
    return Command(words, {**moved.env, **on.manage.env}, dict(on.manage.secrets), moved.directory)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - began, 3)


@contextmanager
def _sessions_of(on: OnCopy) -> Iterator[threading.Event]:
    """Whether the login that only the release has is seen on the copy; looked at all the time, as pages are quick."""
    seen, over = threading.Event(), threading.Event()

    def look() -> None:
        with suppress(psycopg.Error, SafepointError), connect(on.copy, application_name="safepoint") as connection:
            while not over.is_set() and not seen.is_set():
                count = connection.execute(_SESSIONS, [migration_role(_LOGIN), on.copy.dbname]).fetchone()
                if count is not None and count[0]:
                    seen.set()
                over.wait(0.01)

    thread = threading.Thread(target=look, name="rehearsal-sessions", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)
