"""The preflight checks: everything that a launch needs, looked at before it begins, each with its remedy.

A check that could not look is a failure, never silence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from safepoint.config import PlanFile, format_duration
from safepoint.django import pointing
from safepoint.django.address import how_to_lead, unled
from safepoint.django.inspector import redirected
from safepoint.django.managepy import Manage
from safepoint.errors import CommandFailed
from safepoint.hosts import open_host
from safepoint.hosts.here import Here
from safepoint.hosts.lending import LOOPBACK, NotLent, lent
from safepoint.launch.begin import entries_of
from safepoint.launch.doctor.database import LOOKS as DATABASE
from safepoint.launch.doctor.finding import Finding, Look, failure, guarded, ok, warning
from safepoint.launch.doctor.launches import LOOKS as LAUNCHES
from safepoint.launch.doctor.releases import LOOKS as RELEASES
from safepoint.launch.doctor.wayback import LOOKS as WAYBACK
from safepoint.launch.doctor.world import LOOKS as WORLD
from safepoint.launch.wayback.proof_standing import accepted
from safepoint.rehearsal.squawk import program

_AT_ONCE = 4


def examine(
    plan: PlanFile, *, now: datetime | None = None, tell: Callable[[str], None] | None = None
) -> tuple[Finding, ...]:
    """Carry out all checks, several at once, and give their findings in a fixed order. Nothing is changed.

    (The stores get a probe of a few bytes that is removed again; the test user logs in once.)

    Args:
        now: the instant that times are judged against; None is the clock's.
        tell: is told the name of each group of checks when it is done.
    """
    instant = now or datetime.now(UTC)
    looks: dict[str, Look] = {
        "timetable": timetable,
        "rehearsal": rehearsal,
        **DATABASE,
        **LAUNCHES,
        **WAYBACK,
        **RELEASES,
        **WORLD,
    }

    def carry_out(item: tuple[str, Look]) -> tuple[Finding, ...]:
        findings = guarded(item[0], lambda: item[1](plan, instant))
        if tell is not None:
            tell(item[0])
        return findings

    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="doctor") as pool:
        return tuple(finding for findings in pool.map(carry_out, looks.items()) for finding in findings)


def failures(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those that stop a launch."""
    return tuple(finding for finding in findings if finding.verdict == "failure")


def timetable(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Every moment exists exactly once in local time, lies ahead, and the clock is sane."""
    from safepoint.launch.plan import phase_starts

    if now.year < 2025:
        yield failure("clock", f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC.", "Set the clock (NTP).")
    starts = phase_starts(plan)
    zone = plan.launch.timezone.key
    first, stop = next(iter(starts.values())), starts["stop"]
    if entries_of(plan):  # by the timetable that it began with; its date is a part of its name
        yield ok("timetable", "The launch has begun: `safepoint status` says when its next step is due")
    elif first < now:
        yield warning(
            "timetable",
            f"The first phase should have begun at {first:%Y-%m-%d %H:%M} ({zone}).",
            "Set a later launch.date; or carry the launch out without waiting: `safepoint launch --now`.",
        )
    else:
        yield ok("timetable", f"Begins {first:%a %Y-%m-%d %H:%M}, traffic stops {stop:%a %Y-%m-%d %H:%M} ({zone})")
    # Subtracting two local times of one zone ignores a change of the clocks between them; UTC does not.
    window = (starts["green"].astimezone(UTC) - stop.astimezone(UTC)).total_seconds() / 60
    if window <= 0:
        yield failure("timetable", f"The window has {window:.0f} minutes.", "Let `green` be later than `stop`.")
    elif starts["prepare"].utcoffset() != starts["retire"].utcoffset():
        yield warning(
            "timetable",
            f"The clocks change in {zone} between the first and the last phase.",
            "Tell the team which offset each time has: `safepoint plan` shows it.",
        )
    yield from _too_old(plan, starts)


def _too_old(plan: PlanFile, starts: Mapping[str, datetime]) -> Iterator[Finding]:
    """What the gate before the window would refuse by its age, as the timetable has it."""
    limits = [("freeze", "The final snapshot", "snapshot.max_age", plan.snapshot.max_age)]
    if plan.rehearsal.required:
        limits.append(("prepare", "The rehearsal's snapshot", "rehearsal.max_age", plan.rehearsal.max_age))
    for phase, what, key, limit in limits:
        age = starts["stop"].astimezone(UTC) - starts[phase].astimezone(UTC)
        if age > limit:
            shown, allowed = format_duration(age.total_seconds()), format_duration(limit.total_seconds())
            yield warning(
                "timetable",
                f"{what} will be {shown} old when traffic stops, and {allowed} is allowed: the gate will say no-go.",
                f"Let `{phase}` be nearer to `stop` in [timetable], or raise {key}.",
            )


def _reached(plan: PlanFile, without: str) -> Iterator[Finding]:
    """Whether the application, where it is not on this machine, reaches the copy that it is rehearsed on."""
    name = plan.application.host
    host = open_host(name, plan.host(name), plan.folder)
    if isinstance(host, Here):
        return
    if plan.scratch is not None and plan.scratch.host not in LOOPBACK:
        yield warning(
            "rehearsal",
            f"The application on {name!r} has to reach the scratch server, {plan.scratch.host}:{plan.scratch.port}, to "
            "be rehearsed; nobody has tried.",
            "See that it may connect there; `safepoint rehearse` tries it.",
        )
        return
    try:
        # Whatever listens here: only the way to it is asked for.
        with lent(host, LOOPBACK[0], 1):
            yield ok("rehearsal", f"The application on {name!r} reaches copies on this machine by its sshd (tried)")
    except NotLent as error:
        yield failure("rehearsal", error.message, f"{error.remedy} Or {without}.")


def _led(plan: PlanFile, without: str) -> Finding:
    """Whether settings that are made for a rehearsal lead the new release to its copy, as the launch will have it."""
    release = plan.releases.new
    own = Manage(open_host(plan.application.host, plan.host(plan.application.host), plan.folder), release)
    with tempfile.TemporaryDirectory(prefix="safepoint-doctor-") as name:
        folder = Path(name)
        given = plan.rehearsal.variables(folder)
        try:
            env = {**given, **pointing.settings_over(own, folder / "settings", given)}
            used = redirected(replace(own, env=env), pointing.VARIABLE) is not None
        except CommandFailed as error:
            return failure("rehearsal", error.message, error.remedy or f"Correct it, or {without}.")
    if used:
        return ok("rehearsal", "For its rehearsal the application gets settings that lead to the copy, over its own")
    return failure(
        "rehearsal",
        f"{release.version} does not use the settings that are made for its rehearsal, which lead to the copy (tried): "
        "the launch would end there.",
        f"Does `manage` set DJANGO_SETTINGS_MODULE itself? {how_to_lead(plan.application)}; or {without}.",
    )


def rehearsal(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Whether the launch can rehearse itself; a plan that cannot must say that it does without."""
    del now
    without = "leave it out by [rehearsal] required = false"
    if not plan.rehearsal.required:
        yield ok("rehearsal", "The migrations are not rehearsed, by the plan's choice")
        if plan.application.fixed and plan.wayback.prove and accepted(plan) is None:
            yield failure(
                "wayback",
                "The way back cannot be proven: there is no rehearsal that would, and "
                f"{unled(plan.application)}, so that nothing leads the application to a copy. The launch would end "
                "there.",
                f"{how_to_lead(plan.application)}, or let the launch rehearse; or accept that nothing is carried back "
                "([wayback] prove = false).",
            )
        return
    host = plan.application.host
    here = plan.host(host).kind == "here"
    if plan.application.fixed and not here:
        yield failure(
            "rehearsal",
            "The launch wants a rehearsal, and the application cannot be pointed at a copy: "
            f"{unled(plan.application)}.",
            f"{how_to_lead(plan.application)}, or {without}.",
        )
        return
    if plan.application.fixed:
        yield _led(plan, without)
    yield from _reached(plan, without)
    if program() is None:
        yield warning("rehearsal", "squawk is not installed.", "pip install 'safepoint[lint]'; our own rules run.")
    else:
        yield ok("rehearsal", "The migrations will be rehearsed on the data of the day before")
