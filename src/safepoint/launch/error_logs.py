"""The logs whose new lines a launch is judged by: the application's, and the server's where the plan file names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

from safepoint.checkpoints import logs
from safepoint.checkpoints.checkpoint import Checkpoint, timed
from safepoint.config import PlanFile
from safepoint.errors import SafepointError
from safepoint.hosts import open_host
from safepoint.launch.doctor.finding import Finding, failure, ok, warning
from safepoint.launch.ground import Ground

When = Literal["closed", "open"]
_FACTS = {"closed": "", "open": "-open"}


@dataclass(frozen=True)
class Watched:
    """A log of the plan: on which host, by which pattern, and under which fact its marks are recorded."""

    kind: logs.Kind
    host: str
    path: str
    pattern: str
    fact: str


def watched(plan: PlanFile) -> Iterator[Watched]:
    """The logs that the plan names."""
    limits = plan.checkpoints
    if plan.application.error_log is not None:
        here = plan.application
        yield Watched(logs.APPLICATION, here.host, plan.application.error_log, limits.error_pattern, "log-mark")
    if plan.database.error_log is not None:
        where, pattern = plan.database.tools_host, limits.database_error_pattern
        yield Watched(logs.DATABASE, where, plan.database.error_log, pattern, "database-log-mark")


def note(ground: Ground, when: When) -> None:
    """Record how far each log goes now; the first mark of its kind stays.

    When the site is closed: what comes from then on is the launch's. When the old release is gone: what it logged to
    its end, because its sessions were ended, is not held against the new one.
    """
    for log in watched(ground.plan):
        fact = log.fact + _FACTS[when]
        if ground.fact(fact) is None:
            ground.record(fact, logs.mark(ground.host(log.host), log.path).as_json())


def note_healthy(ground: Ground) -> str | None:
    """The new release answers now: what the application logged while it was asked, and could not yet, is not held
    against it; how much that was is given, for people. The first mark stays.

    A pooler may refuse logins for a while after the fence was opened, and each of our questions makes an error then.
    """
    told = []
    for log in watched(ground.plan):
        since = _recorded(ground, log)
        if log.kind is not logs.APPLICATION or since is None or ground.fact(f"{log.fact}-healthy") is not None:
            continue
        found = logs.read(ground.host(log.host), since, log.pattern)
        ground.record(f"{log.fact}-healthy", found.from_here().as_json())
        if found.errors:
            first = f"; first: {found.samples[0]}" if found.samples else ""
            told.append(f"{found.errors} errors in {log.path} meanwhile, not counted{first}")
    return "; ".join(told) or None


def _recorded(ground: Ground, log: Watched) -> logs.LogMark | None:
    """The newest mark of the launch."""
    facts = (ground.fact(log.fact + when) for when in ("-healthy", *reversed(_FACTS.values())))
    found = next((fact for fact in facts if fact is not None), None)
    return None if found is None else logs.LogMark.from_json(dict(found))


class Reading:
    """One look at them after another; each goes on where the one before it ended."""

    def __init__(self, ground: Ground, told: Sequence[Mapping[str, Any]] = (), *, excused: bool = True) -> None:
        """Read on where `told` ends: the marks of earlier looks, whose findings a person knows of.

        Args:
            excused: those findings are done with. Otherwise they stay a doubt, which a person has to answer: to be
                asked once more makes no error harmless.
        """
        self._ground = ground
        self._since: dict[str, logs.LogMark | None] = {}
        self._doubted: dict[str, int] = {}
        for log in watched(ground.plan):
            known = [logs.LogMark.from_json(dict(marks[log.fact])) for marks in told if log.fact in marks]
            self._since[log.fact] = replace(known[-1].from_here(), gap=False) if known else _recorded(ground, log)
            self._doubted[log.fact] = 0 if excused else sum(mark.errors for mark in known)

    def marks(self) -> dict[str, Any]:
        """How far each was read, and what was found; as JSON."""
        return {fact: mark.as_json() for fact, mark in self._since.items() if mark is not None}

    def now(self) -> list[Checkpoint]:
        """A checkpoint for each. One that was not marked has failed: nothing was looked at."""
        return [timed(log.kind.name, log.kind.title, partial(self._one, log)) for log in watched(self._ground.plan)]

    def _one(self, log: Watched) -> Checkpoint:
        since = self._since[log.fact]
        if since is None:
            raise SafepointError(f"{log.path} was not marked when traffic stopped.", subject=log.path)
        found, self._since[log.fact] = logs.errors_since(
            self._ground.host(log.host),
            since,
            pattern=log.pattern,
            limit=self._ground.plan.checkpoints.error_lines,
            kind=log.kind,
        )
        doubted, limit = self._doubted[log.fact], self._ground.plan.checkpoints.error_lines
        if found.verdict != "pass" or doubted <= limit:
            return found
        return replace(
            found,
            verdict="inconclusive",
            detail=f"no error since; told before, in {log.path}: {doubted}",
            remedy="Read them: `go`, where they are harmless; else roll back.",
        )


def database_log(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """The server's own log, where the plan file names it: crashes and damage stand nowhere else."""
    del now
    path, host = plan.database.error_log, plan.database.tools_host
    if path is None:
        yield warning(
            "database-log",
            "The server's own log is not watched (database.error_log is not set).",
            "Name it there, as a file on database.tools_host; or keep an eye on it yourself.",
        )
    elif logs.mark(open_host(host, plan.host(host), plan.folder), path).inode == 0:
        yield failure("database-log", f"There is no file {path}.", "Correct database.error_log.")
    else:
        yield ok("database-log", f"{path} can be read")
