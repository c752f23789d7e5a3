"""What the timeline knows, gathered from ledger entries and progress. No I/O; the clock is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from safepoint.launch.typed import typed, typed_in

if TYPE_CHECKING:
    from safepoint.launch.ledger import Entry
    from safepoint.launch.plan import Plan
    from safepoint.progress import Progress


@dataclass
class Moving:
    """How far a running step is: its newest progress, and when this piece of work was first heard of, how far."""

    progress: Progress
    first: float
    first_done: float
    latest: float

    def rate(self, now: float) -> float | None:
        """Units a second, once there is enough to say so."""
        moved, took = self.progress.done - self.first_done, now - self.first
        return moved / took if moved > 0 and took >= 0.3 else None

    def left(self, now: float) -> float | None:
        """Seconds until it is done, where the total is known."""
        total = self.progress.total
        if total is None:
            return None
        if self.progress.unit == "s":
            return max(0.0, total - self.progress.done - (now - self.latest))
        rate = self.rate(now)
        return None if rate is None else max(0.0, total - self.progress.done) / rate


@dataclass
class Line:
    """One step as the timeline shows it. `verdict` is `""` until it begins."""

    id: str
    title: str
    phase: str
    gate: bool = False
    at: str | None = None
    verdict: str = ""
    seconds: float | None = None
    summary: str = ""
    remedy: str = ""
    attempt: int = 1
    begun: float | None = None
    moving: Moving | None = None


@dataclass
class State:
    """The launch as its timeline sees it."""

    plan: Plan
    lines: dict[str, Line] = field(default_factory=dict)
    question: Mapping[str, Any] | None = None
    status: str = ""
    reason: str = ""
    since: datetime | None = None
    begun: float | None = None
    notes: list[str] = field(default_factory=list)
    plan_file: str = ""
    way_back: bool = False
    returning: bool = False
    over: bool = False

    def __post_init__(self) -> None:
        self._expect_plan()

    def _expect_plan(self) -> None:
        """All its steps are to come: what an earlier try did is done again."""
        self.lines = {step.id: Line(step.id, step.title, step.phase, step.gate, step.at) for step in self.plan.steps}

    def take(self, entry: Entry, now: float) -> None:
        """Learn from a ledger entry."""
        data = entry.data
        if entry.kind == "run":
            self.since, self.begun, self.status, self.question = entry.when, now, "", None
            self.way_back = self.returning = False
            if data["course"] == "launch":
                self._expect_plan()
            self.notes += [str(data["note"])] if data.get("note") else []
        if entry.kind == "launch":
            self.plan_file = str(data.get("plan_file", ""))
        elif entry.kind == "resumed":
            self.since = self.since or entry.when
            self.begun = now if self.begun is None else self.begun
            self.notes.append(f"resumed after {data['after']}")
        elif entry.kind == "ask":
            self.question = {"step": entry.step, **typed_in(data, self.plan_file)}
        elif entry.kind in ("order", "decided"):
            self._order(entry)
        elif entry.kind in ("wayback", "wayforth"):
            self._take_way(entry)
        elif entry.kind == "end":
            self.status, self.reason, self.question = str(data["status"]), str(data["reason"]), None
        elif entry.kind.startswith("step."):
            self._step(entry, now)

    def _order(self, entry: Entry) -> None:
        if entry.kind == "decided" or entry.data["fate"] == "taken":
            self.question = None
        if entry.kind == "decided" and (line := self.lines.get(str(entry.step))) is not None:
            line.verdict, line.summary = "pass", f"go by {entry.data['by']}: {line.summary}"
        if entry.kind == "order":
            self.notes.append(f"{entry.data['order']} by {entry.data['by']}: {entry.data['fate']}")

    def _take_way(self, entry: Entry) -> None:
        """The way back, or from there forth again: what ran is ended, what was to come of the other way never comes."""
        self.question, self.way_back, self.returning = None, True, entry.kind == "wayforth"
        for line in self.lines.values():
            if line.verdict == "running":
                line.verdict, line.moving = "interrupted", None
        self.lines = {key: line for key, line in self.lines.items() if line.verdict}
        for step in entry.data["steps"]:
            self.lines.pop(step["id"], None)  # of an earlier rollback: it comes last now
            self.lines[step["id"]] = Line(step["id"], step["title"], "rollback")

    def _step(self, entry: Entry, now: float) -> None:
        data = entry.data
        step_id = str(entry.step)
        line = self.lines.setdefault(step_id, Line(step_id, data.get("title", step_id), data.get("phase", "rollback")))
        self.question = None
        if entry.kind == "step.begun":
            line.verdict, line.begun, line.attempt = "running", now, int(data["attempt"])
            line.moving, line.seconds, line.summary, line.remedy = None, None, "", ""
            return
        evidence = data.get("evidence") or {}
        line.verdict = evidence.get("verdict", "pass") if entry.kind == "step.done" else data["verdict"]
        line.seconds, line.moving = data.get("seconds"), None
        line.summary = typed(str(data.get("summary") or evidence.get("summary", "")), self.plan_file)
        line.remedy = typed(str((data.get("error") or {}).get("remedy") or ""), self.plan_file)
        if data.get("already"):
            line.summary = f"found done already: {line.summary}"

    def progress(self, step_id: str, progress: Progress, now: float) -> None:
        """Learn how far a step is. Another piece of work, or one that begins anew, starts the rate anew."""
        line = self.lines.get(step_id)
        if line is None:
            return
        if line.verdict == "":
            line.verdict, line.begun = "running", now
        known = line.moving
        if known is None or known.progress.what != progress.what or progress.done < known.progress.done:
            line.moving = Moving(progress, now, progress.done, now)
        else:
            known.progress, known.latest = progress, now

    def moving(self, step_id: str) -> Moving:
        """The progress of a step that has told one."""
        moving = self.lines[step_id].moving
        if moving is None:
            raise KeyError(step_id)
        return moving

    def begun_at(self, step_id: str, otherwise: float) -> float:
        """When a step began, by the monotonic clock."""
        begun = self.lines[step_id].begun if step_id in self.lines else None
        return otherwise if begun is None else begun

    def phases(self) -> Iterator[tuple[str, list[Line]]]:
        """The steps by phase, in the order of the plan, the way back last."""
        groups: dict[str, list[Line]] = {}
        for line in self.lines.values():
            groups.setdefault(line.phase, []).append(line)
        yield from groups.items()

    @property
    def running(self) -> Line | None:
        """The step that runs now."""
        return next((line for line in reversed(self.lines.values()) if line.verdict == "running"), None)

    def awaited(self, wall: datetime) -> tuple[Line, float] | None:
        """The step whose time has not come and the seconds until then, where the launch waits for the clock."""
        if self.plan.hurry or self.way_back or self.status or self.question or self.running:
            return None
        line = next((line for line in self.lines.values() if not line.verdict), None)
        if line is None or line.at is None:
            return None
        seconds = (datetime.fromisoformat(line.at) - wall).total_seconds()
        return (line, seconds) if seconds > 0 else None
