"""The preflight check of a project's further databases: no step migrates them, and no way back is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safepoint.config import PlanFile
from safepoint.django.inspector import Project, inspect, led_along
from safepoint.django.managepy import Manage
from safepoint.django.pending import Pending, read_pending
from safepoint.errors import CommandFailed, Refused
from safepoint.launch.doctor.finding import Finding, failure, ok, some, warning
from safepoint.launch.rehearsal.others import looked_after


def other_databases(plan: PlanFile, manage: Manage, project: Project, check: str) -> Iterator[Finding]:
    """What the new release would migrate there is for a person to apply, before the window and so that both can run."""
    others = [one.alias for one in project.databases if one.alias != "default" and one.vendor != "unknown"]
    pending = _pending(manage) if others else None
    if pending is not None:
        same = {one.alias for one in pending.others if one.identity == pending.identity}
        if same:
            yield ok(check, f"The launched database by another alias: {some(sorted(same))}")
        others = [alias for alias in others if alias not in same]
    if not others:
        return
    yield warning(
        check,
        f"The project has further databases ({some(others)}), which this launch does not touch.",
        "Make sure that no migration of this release needs them.",
    )
    if plan.rehearsal.required and pending is not None and pending.exposed:
        yield from _rehearsed(plan, manage, check)
    for alias, labels in _waiting(manage, pending).items():
        yield warning(
            "migrations",
            f"{len(labels)} migrations of {manage.release.version} are pending in the database {alias!r} as well: "
            f"{some(labels)}. No step applies them, and a rollback takes back nothing of what is done there.",
            f"Apply them by `manage.py migrate --database {alias}` before the window, where the old release can run "
            "with them, or be sure that its router allows nothing of them there.",
        )


def _rehearsed(plan: PlanFile, manage: Manage, check: str) -> Iterator[Finding]:
    """Those that a migration could write to are led to copies in the rehearsal, or the launch ends there."""
    with TemporaryDirectory(prefix="safepoint-doctor-") as folder:
        env = {**manage.env, **plan.rehearsal.variables(Path(folder))}
        there = Manage(manage.host, manage.release, env, manage.secrets, manage.directory)
        try:
            told = looked_after(plan, there, _as_led(plan, there, read_pending(there)))
        except Refused as refused:
            yield failure(check, f"{refused.message} The launch would end at its rehearsal.", refused.remedy)
        except CommandFailed as error:
            said = f"With the variables of [rehearsal.env] {manage.release.version} does not start: {error.message}"
            yield failure(check, said, error.remedy)
        else:
            yield from (ok(check, f"In the rehearsal {one}") for one in told)


def _as_led(plan: PlanFile, manage: Manage, pending: Pending) -> Pending:
    """As it will be in the rehearsal: those on the default one's server are led along to that of the copy."""
    along = set() if plan.application.fixed else led_along(manage, plan.application)
    moved = {one.alias for one in pending.others if one.identity != pending.identity} & along
    others = (replace(one, beside=True, identity=None) if one.alias in moved else one for one in pending.others)
    return replace(pending, others=tuple(others))


def _pending(manage: Manage) -> Pending | None:
    """None where it cannot be asked: of the default database it is said already."""
    try:
        return read_pending(manage)
    except CommandFailed:
        return None


def _waiting(manage: Manage, pending: Pending | None) -> dict[str, list[str]]:
    """By further database what is pending there, where any were recorded: not in a replica, nor in one that `migrate`
    never had."""
    found = {}
    try:
        for one in () if pending is None else pending.exposed:
            there = inspect(manage, database=one.alias)
            if there.applied and there.pending:
                found[one.alias] = [migration.label for migration in there.pending]
    except CommandFailed:  # of the default one it is said already
        return found
    return found
