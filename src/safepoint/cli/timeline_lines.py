"""The timeline's words: marks, one line an event, progress, and what to type when a question is open. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safepoint.config.durations import format_bytes, format_duration
from safepoint.launch.typed import option, typed

if TYPE_CHECKING:
    from safepoint.cli.timeline_state import Moving, State
    from safepoint.launch.ledger import Entry

ANSWERS = {
    "go": "yes: go on with it",
    "retry": "try this step again",
    "abort": "no: take the way back",
    "rollback": "no: take the way back",
    "return": "turn round: the new release and its database again",
    "hold": "stop before the next step",
}


@dataclass(frozen=True)
class Marks:
    """The signs before a step."""

    passed: str
    failed: str
    doubt: str
    running: str
    waiting: str
    interrupted: str
    to_come: str
    ascii_only: bool

    def of(self, verdict: str) -> str:
        """The sign of a verdict."""
        return {
            "pass": self.passed,
            "fail": self.failed,
            "inconclusive": self.doubt,
            "running": self.running,
            "interrupted": self.interrupted,
        }.get(verdict, self.to_come)


def marks_for(encoding: str | None) -> Marks:
    """The signs that an output of this encoding can show."""
    try:
        "✓✗●↺·━…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return Marks("+", "x", "?", "*", "?", "!", ".", ascii_only=True)
    return Marks("✓", "✗", "?", "●", "?", "↺", "·", ascii_only=False)


def event_line(entry: Entry, state: State, marks: Marks) -> tuple[str, str] | None:
    """The mark and the text of a ledger entry, or None where it is nothing for a person."""
    if entry.kind.startswith("step."):
        return _step_line(entry, state, marks)
    data = entry.data
    told = {
        "run": lambda: (marks.running, _begins(data, state.plan.launch_id)),
        "resumed": lambda: (marks.interrupted, f"resumed by {data['by']}: {data['after']}"),
        "ask": lambda: (marks.waiting, f"{entry.step or '':<15} {data['question']}"),
        "waits": lambda: (marks.doubt, f"{entry.step or '':<15} {data['for']}"),
        "decided": lambda: (marks.passed, f"{entry.step or '':<15} go by {data['by']}"),
        "order": lambda: (marks.running, f"{entry.step or '':<15} {data['order']} by {data['by']}: {data['fate']}"),
        "wayback": lambda: (marks.interrupted, f"the way back, {len(data['steps'])} steps: {data['reason']}"),
        "wayforth": lambda: (marks.interrupted, f"turned round, {len(data['steps'])} steps: {data['reason']}"),
        "end": lambda: (
            marks.passed if data["status"] == "launched" else marks.interrupted,
            f"{data['status']}{': ' if data['reason'] else ''}{data['reason']}",
        ),
    }.get(entry.kind)
    if told is None:
        return None
    mark, text = told()
    return mark, typed(text, state.plan_file)


def _begins(data: Mapping[str, Any], launch_id: str) -> str:
    noted = f" ({data['note']})" if data.get("note") else ""
    return f"{data['course']} {launch_id} begins, run {data['run']}{noted}"


def _step_line(entry: Entry, state: State, marks: Marks) -> tuple[str, str]:
    line = state.lines[str(entry.step)]
    if entry.kind == "step.begun":
        again = f" (attempt {line.attempt})" if line.attempt > 1 else ""
        return marks.running, f"{line.id:<15} {line.title}{again}"
    took = format_duration(line.seconds) if line.seconds is not None else ""
    text = f"{line.id:<15} {took:>8}  {line.summary}"
    return marks.of(line.verdict), text + (f" | next: {line.remedy}" if line.remedy else "")


def question_lines(question: Mapping[str, Any], plan_file: str) -> list[str]:
    """What to type, one line a choice."""
    where = option(plan_file)
    commands = [(f"safepoint {choice}{where}", ANSWERS.get(choice, "")) for choice in question.get("choices", ())]
    width = max((len(command) for command, _ in commands), default=0)
    return [f"{command:<{width}}  {means}".rstrip() for command, means in commands]


def amount(value: float, unit: str) -> str:
    """A quantity of progress for a person."""
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        return format_duration(value)
    return f"{value:,.0f} {unit}".rstrip()


def progress_text(moving: Moving, now: float, *, bar: int, ascii_only: bool) -> str:
    """How far, how long still, what, how fast: `━━━━━──── 52%  14 s left  dump  1200 MB of 2300 MB  80 MB/s`."""
    progress = moving.progress
    if progress.whole:
        return f"{progress.what}: {'done' if progress.done else 'begun'}"
    parts = []
    done = progress.done
    if progress.total:
        if progress.unit == "s":
            done = min(progress.total, done + now - moving.latest)
        share = min(1.0, max(0.0, done / progress.total))
        full, rest = ("#", "-") if ascii_only else ("━", "─")
        filled = round(share * bar)
        parts.append(f"{full * filled}{rest * (bar - filled)} {share:4.0%}".strip())
        if (left := moving.left(now)) is not None:
            parts.append(f"{format_duration(left)} left")
        parts.append(progress.what)
        counted = progress.unit not in ("bytes", "s")
        shown = f"{done:,.0f}" if counted else amount(done, progress.unit)
        parts.append(f"{shown} of {amount(progress.total, progress.unit)}")
    else:
        parts.append(progress.what)
        parts += [amount(done, progress.unit)] if done else []
    rate = moving.rate(now)
    if rate is not None and progress.unit not in ("s", ""):
        parts.append(f"{amount(rate, progress.unit)}/s")
    return "  ".join(parts)
