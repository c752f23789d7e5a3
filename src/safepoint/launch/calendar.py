"""The timetable as an iCalendar file (RFC 5545): one event a phase, in UTC, with a reminder. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from safepoint.launch.plan import Plan
from safepoint.launch.step import PlannedStep

SUMMARIES = {
    "prepare": "pre-launch backup and proof",
    "freeze": "final backup, code freeze",
    "stop": "site closed, window begins",
    "migrate": "migrate and verify",
    "green": "canary, then everyone",
    "watch": "heavy monitoring",
    "retire": "way back ends",
}
LONGEST = timedelta(hours=2)
"""An event ends when the next phase begins, and after this time at the latest: a night is no meeting."""
LAST = timedelta(minutes=30)
"""How long the last phase's event is."""
FOLD = 75  # octets a line, without its end (RFC 5545, 3.1)


def calendar(plan: Plan, starts: Mapping[str, datetime], stamp: datetime) -> str:
    """The calendar as text with CRLF line ends.

    `starts` says when each phase begins (`plan.phase_starts`), `stamp` when this calendar was made.
    """
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Safepoint//Launch//EN", "CALSCALE:GREGORIAN"]
    for phase, start, end in _spans(starts):
        lines += _event(plan, phase, start, end, stamp)
    lines.append("END:VCALENDAR")
    return "".join(f"{fold(line)}\r\n" for line in lines)


def _spans(starts: Mapping[str, datetime]) -> Iterator[tuple[str, datetime, datetime]]:
    ordered = list(starts.items())
    for (phase, start), (_, following) in pairwise(ordered):
        yield phase, start, min(following, start + LONGEST)
    if ordered:
        phase, start = ordered[-1]
        yield phase, start, start + LAST


def _event(plan: Plan, phase: str, start: datetime, end: datetime, stamp: datetime) -> list[str]:
    steps = [f"{number}. {step.title}" for number, step in enumerate(_steps(plan, phase), start=1)]
    what = SUMMARIES.get(phase, phase)
    if phase == "green" and all(step.verb != "canary" for step in plan.steps):
        what = "everyone"
    return [
        "BEGIN:VEVENT",
        f"UID:{plan.launch_id}-{phase}@safepoint",
        f"DTSTAMP:{utc(stamp)}",
        f"DTSTART:{utc(start)}",
        f"DTEND:{utc(end)}",
        f"SUMMARY:{text(f'{plan.application} {plan.new}: {what}')}",
        f"DESCRIPTION:{text(chr(10).join([f'Launch {plan.launch_id}', *steps]))}",
        "BEGIN:VALARM",
        "ACTION:DISPLAY",
        "TRIGGER:-PT15M",
        f"DESCRIPTION:{text(what)}",
        "END:VALARM",
        "END:VEVENT",
    ]


def _steps(plan: Plan, phase: str) -> Iterator[PlannedStep]:
    return (step for step in plan.steps if step.phase == phase)


def utc(at: datetime) -> str:
    """A moment in UTC form (RFC 5545, 3.3.5, form 2)."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def text(value: str) -> str:
    """A TEXT value, escaped (RFC 5545, 3.3.11)."""
    escaped = value.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return escaped.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\\n")


def fold(line: str) -> str:
    """A content line folded to 75 octets, never within a character (RFC 5545, 3.1)."""
    parts, current, used = [], "", 0
    for character in line:
        size = len(character.encode())
        if used + size > FOLD:
            parts.append(current)
            current, used = " ", 1
        current += character
        used += size
    return "\r\n".join([*parts, current])
