"""The preflight checks of what a release's settings and its folder hold that would show in the window only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from safepoint.config import HereHost, PlanFile, Release
from safepoint.django.address import how_to_lead
from safepoint.django.inspector import Project, ProjectDatabase, inspect
from safepoint.django.managepy import Manage, redirect
from safepoint.hosts import Host
from safepoint.launch import frozen
from safepoint.launch.doctor.finding import Finding, failure, ok, some, warning
from safepoint.postgres.target import target

_TRIED_SECONDS: Final = 47.0  # a lock_timeout that nobody has by chance


def session_of(plan: PlanFile, manage: Manage, check: str) -> Iterator[Finding]:
    """What Safepoint sets for the migration's session reaches the server: a pooler refuses it, or drops it."""
    env, _secrets = redirect(plan.application, target(plan.database), lock_timeout=_TRIED_SECONDS)
    there = inspect(Manage(manage.host, manage.release, env, directory=manage.directory))
    if there.session is not None and there.session["lock_timeout"] == f"{_TRIED_SECONDS:.0f}s":
        yield ok(check, "The settings of the migration's session reach the server (tried)")
        return
    said = there.database_error or "they are dropped on the way"
    yield failure(
        check,
        f"The settings of the migration's session do not reach the server: {said}.",
        f"A connection pooler (PgBouncer) stands between? {how_to_lead(plan.application)}: by them "
        "Safepoint leads manage.py to the server itself.",
    )


def other_log(plan: PlanFile, project: Project) -> Iterator[Finding]:
    """Whether the log that is watched is the one that the new release writes to, as far as its settings say."""
    path, version = plan.application.error_log, plan.releases.new.version
    if path is None or not project.error_logs or plan.host(plan.application.host).kind != "here":
        return
    if (plan.folder / path).resolve() not in {Path(one).resolve() for one in project.error_logs}:
        yield warning(
            "error-log",
            f"{version} logs to {', '.join(project.error_logs)}, and {path} is watched: its errors would not be seen.",
            "After the window it is the new release that is judged: name its log in application.error_log.",
        )


def restless(plan: PlanFile, host: Host, release: Release, project: Project) -> Iterator[Finding]:
    """What changes in the folder of a release that runs is no code, and the gate before the window would not know."""
    found = frozen.restless(host, release, frozen.no_code(plan, release, project))
    if found is None:
        yield ok("code", f"Nothing in the folder of {release.version} has changed within the last hour")
    else:
        yield warning(
            "code",
            f"In the folder of {release.version} files have changed within the last hour: {found}.",
            "If they are no code (uploads, pid files), name them or their folder in releases.old.data: code that "
            "changes between `freeze` and the window is a no-go.",
        )


def lost_options(
    variable: str, own: ProjectDatabase | None, there: ProjectDatabase | None, check: str
) -> Finding | None:
    """Options of the session that only the application's own address carries, in its query."""
    if there is None or own is None or own.options in ("", there.options):
        return None
    words = " ".join(re.findall(r"(\w+=\S+)", own.options)[:1]) or "search_path=..."
    return failure(
        check,
        f"{variable} itself carries `options` ({own.options}), which the address of a migration's login lacks: it "
        "would look for, and make, tables elsewhere.",
        f"Give them to the role, which that login takes over: ALTER ROLE {own.user} IN DATABASE {own.name} "
        f"SET {words.replace('=', ' = ', 1)}; or write them into the settings' OPTIONS.",
    )


def lost_engine(
    variable: str, own: ProjectDatabase | None, there: ProjectDatabase | None, check: str
) -> Finding | None:
    """An engine that the settings choose by the scheme of the application's own address, which is not known here."""
    if there is None or own is None or own.engine == there.engine:
        return None
    return failure(
        check,
        f"With the address of a migration's login in {variable} the settings choose the engine {there.engine}, and "
        f"with the application's own {own.engine}: migrations would run by another one.",
        f"Name the engine in the settings, beside the address (dj-database-url and django-environ take `engine`); or "
        f"set {variable} for the conductor as the application has it.",
    )


def handed_on(plan: PlanFile, release: Release, project: Project, which: str) -> Iterator[Finding]:
    """Secrets of Safepoint's own that a release would have in its environment: whoever reads a file there has them.

    It is started with the conductor's environment, where its own variables are. What its settings read is its own, too.
    """
    if not isinstance(plan.host(plan.application.host), HereHost):
        return
    withheld = {name for option, name in pairwise(release.start) if option in ("-u", "--unset")}
    known = {*project.environment, *plan.application.led_by, *release.env, *withheld}
    given = sorted(name for name in secrets_of(plan) if name in os.environ and name not in known)
    if given:
        words = " ".join(f"-u {name}" for name in given)
        yield warning(
            f"release-{which}",
            f"{release.version} is started with {some(given)} in its environment, which its settings do not read: a "
            "fault of the application that lets its environment be read gives them away.",
            f"Let releases.{which}.start begin with: env {words} ...",
        )


def secrets_of(plan: PlanFile) -> set[str]:
    """The variables that the plan file names for Safepoint's own logins. Pure."""
    login = plan.checkpoints.login
    logins = [plan.database, plan.scratch, plan.wayback.server, login]
    names = {one.password_env for one in logins if one is not None and one.password_env is not None}
    return names.union(*(_named(store.options) for store in plan.stores))


def _named(options: Mapping[str, Any]) -> set[str]:
    found = {value for name, value in options.items() if name.endswith("_env") and isinstance(value, str)}
    return found.union(*(_named(value) for value in options.values() if isinstance(value, Mapping)))
