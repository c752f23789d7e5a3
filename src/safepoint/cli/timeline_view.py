"""One frame of the live timeline, fitted to the terminal: what matters stays when there is no room for all. Pure."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from safepoint.cli.timeline_lines import Marks, progress_text, question_lines
from safepoint.config.durations import format_duration

if TYPE_CHECKING:
    from safepoint.cli.timeline_state import Line, State

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "bold magenta",
    "running": "bold cyan",
    "interrupted": "yellow",
    "launched": "bold green",
    "failed": "bold red",
    "aborted": "bold yellow",
    "rolled back": "bold yellow",
}
HEADINGS = {
    "prepare": "Prepare",
    "freeze": "Freeze",
    "stop": "Stop",
    "migrate": "Migrate",
    "green": "Green",
    "watch": "Watch",
    "retire": "Retire",
    "rollback": "Way back",
}


@dataclass
class Group:
    """A phase on the screen: its steps, and how much of it is shown."""

    phase: str
    lines: list[Line]

    @property
    def done(self) -> bool:
        """Whether every step of it is over."""
        return all(line.verdict not in ("", "running") for line in self.lines)

    @property
    def begun(self) -> bool:
        """Whether any step of it began."""
        return any(line.verdict for line in self.lines)

    @property
    def troubled(self) -> bool:
        """Whether something of it did not simply pass."""
        return any(line.verdict in ("fail", "inconclusive", "interrupted") for line in self.lines)


def frame(state: State, width: int, height: int, now: float, wall: datetime, marks: Marks) -> Text:
    """The whole timeline in at most `height` lines of `width` columns."""
    head, foot = _head(state, width, now), _foot(state, width, wall, marks)
    groups = [Group(phase, lines) for phase, lines in state.phases()]
    room = max(3, height - len(head) - len(foot))
    body: list[Text] = []
    for folded in range(4):
        body = [line for group in groups for line in _group(state, group, folded, width, now, marks)]
        if len(body) <= room:
            break
    if len(body) > room:
        body = _around_now(body, room, marks)
    return Text("\n", no_wrap=True, overflow="crop").join([*head, *body, *foot])


def _cut(text: str, width: int, marks: Marks) -> str:
    sign = "..." if marks.ascii_only else "…"
    return text if len(text) <= width else text[: max(0, width - len(sign))].rstrip() + sign


def _head(state: State, width: int, now: float) -> list[Text]:
    plan = state.plan
    title = f"{plan.application} {plan.old} -> {plan.new}"
    elapsed = format_duration(max(0.0, now - state.begun)) if state.begun is not None else ""
    way = "the return" if state.returning else "the way back"
    status = state.status or (way if state.way_back else "launching")
    if state.question is not None:
        status = "waits for a person"
    style = STYLES.get(state.status, "bold magenta" if state.question else "bold cyan")
    right = f"{status}  {elapsed}".rstrip()
    room = max(1, width - len(right) - 2)
    left = f"{title}   {plan.launch_id}"
    left = left if len(left) <= room else title[:room]
    line = Text(left, style="bold")
    line.append(" " * max(2, width - len(left) - len(right)))
    line.append(right, style=style)
    return [line, Text("")]


def _foot(state: State, width: int, wall: datetime, marks: Marks) -> list[Text]:
    lines: list[Text] = []
    lines += [Text(f"  {_cut(note, width - 2, marks)}", style="dim") for note in state.notes[-2:]]
    if (waits := state.awaited(wall)) is not None:
        line, seconds = waits
        text = f"waits for {(line.at or '')[11:16]} ({format_duration(seconds)} still): {line.title}"
        lines.append(Text(f"  {_cut(text, width - 2, marks)}", style="bold cyan"))
    if state.status and state.reason:
        lines += [Text(line) for line in textwrap.wrap(state.reason, width - 2, max_lines=3, break_on_hyphens=False)]
    if state.question is not None:
        asked = f"{marks.waiting} {state.question['question']}"
        lines.append(Text(""))
        lines += [
            Text(line, style="bold magenta")
            for line in textwrap.wrap(asked, width - 1, max_lines=3, break_on_hyphens=False)
        ]
        lines.append(Text("  in another terminal, type"))
        lines += [Text(f"    {line}") for line in question_lines(state.question, state.plan_file)]
    return lines


def _group(state: State, group: Group, folded: int, width: int, now: float, marks: Marks) -> list[Text]:
    """A phase. Folded 0: all of it; 1: less of what went wrong; 2: finished phases in a line; 3: those to come too."""
    current = group.begun and not group.done
    if folded >= 2 and group.done and not group.troubled and group.phase != _last_begun(state):
        seconds = sum(line.seconds or 0.0 for line in group.lines)
        text = f"{marks.passed} {HEADINGS.get(group.phase, group.phase):<10} {len(group.lines)} steps"
        return [_two(text, format_duration(seconds), "", "green", width, marks)]
    if folded >= 3 and not group.begun:
        at = f", {group.lines[0].at[11:16]}" if group.lines[0].at and not state.plan.hurry else ""
        text = f"{marks.to_come} {HEADINGS.get(group.phase, group.phase):<10} {len(group.lines)} steps to come{at}"
        return [Text(_cut(text, width, marks), style="dim")]
    first = group.lines[0].at
    shown = f"  {first[:10]} {first[11:16]}" if first and not state.plan.hurry else ""
    heading = Text(HEADINGS.get(group.phase, group.phase), style="bold" if current else "")
    heading.append(shown, style="dim")
    lines = [heading]
    for line in group.lines:
        lines += _step(state, line, folded, width, now, marks)
    return lines


def _last_begun(state: State) -> str:
    return next((line.phase for line in reversed(state.lines.values()) if line.verdict), "")


def _step(state: State, line: Line, folded: int, width: int, now: float, marks: Marks) -> list[Text]:
    took = line.seconds
    if line.verdict == "running" and line.begun is not None:
        took = now - line.begun
    again = f" (attempt {line.attempt})" if 1 < line.attempt < 1000 else ""
    text = f"  {marks.of(line.verdict)} {line.title}{again}"
    elapsed = format_duration(took) if took is not None else ""
    style = STYLES.get(line.verdict, "dim")
    asked = state.question is not None and state.question["step"] == line.id
    if asked:
        text, style = f"  {marks.waiting} {line.title}", "bold magenta"
    shown = [_two(text, elapsed, line.summary, style, width, marks)]
    if line.verdict == "running" and line.moving is not None:
        bar = 20 if width >= 70 else 8
        text = progress_text(line.moving, now, bar=bar, ascii_only=marks.ascii_only)
        shown.append(Text(f"      {_cut(text, width - 6, marks)}", style="cyan"))
    elif line.verdict in ("fail", "inconclusive") and not asked:
        shown += _told(line, folded, width, cut=len(line.summary) > width - _column(width) - 14)
    return shown


def _told(line: Line, folded: int, width: int, *, cut: bool) -> list[Text]:
    """What went wrong, in full where the line above had to cut it, and what to do."""
    most = 3 if folded == 0 else 1
    wrapped = (
        textwrap.wrap(line.summary, width - 7, max_lines=most, placeholder=" ...", break_on_hyphens=False)
        if cut
        else []
    )
    if line.remedy:
        wrapped += textwrap.wrap(
            f"next: {line.remedy}", width - 7, max_lines=2, placeholder=" ...", break_on_hyphens=False
        )
    return [Text(f"      {text}", style="red" if line.verdict == "fail" else "magenta") for text in wrapped]


def _column(width: int) -> int:
    """How wide the titles' column is."""
    return 46 if width >= 100 else max(20, min(40, width - 40))


def _two(text: str, elapsed: str, summary: str, style: str, width: int, marks: Marks) -> Text:
    """Title, time, and what it proved, in columns."""
    column = _column(width)
    line = Text(
        f"{_cut(text, column, marks):<{column}}" if elapsed or summary else _cut(text, column, marks), style=style
    )
    if elapsed or summary:
        line.append(f" {elapsed:>11}", style="")
    room = width - column - 12 - 2
    if summary and room > 4:
        line.append(f"  {_cut(summary, room, marks)}", style="dim")
    return line


def _around_now(body: list[Text], room: int, marks: Marks) -> list[Text]:
    """What is left when even folding was not enough: the lines around what runs, and how many are not shown."""
    now = next((i for i, line in enumerate(body) if marks.running in line.plain[:4]), len(body) - 1)
    if not any(marks.running in line.plain[:4] for line in body):
        now = max((i for i, line in enumerate(body) if line.plain.lstrip()[:1] not in (marks.to_come, "")), default=now)
    start = min(max(0, now - room // 2), len(body) - room)
    shown = body[start : start + room]
    if start > 0:
        shown[0] = Text(f"  {start + 1} lines above", style="dim")
    below = len(body) - start - room
    if below > 0:
        shown[-1] = Text(f"  {below + 1} lines below", style="dim")
    return shown
