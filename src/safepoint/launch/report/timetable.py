"""The plan as a timetable for people: rows for a terminal, Markdown for a wiki, a page for a browser. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from typing import TypeAlias

from safepoint.config import format_duration
from safepoint.launch.plan import Plan
from safepoint.launch.report.chart import PHASES
from safepoint.launch.report.page import page
from safepoint.launch.step import PlannedStep

Spans: TypeAlias = Mapping[str, tuple[float, float]]

FAILURES = {"stop": "stop", "ask": "ask", "undo": "way back"}
LEGEND = (
    ("stop", "the launch ends; nothing of the live system was touched"),
    ("ask", "a person decides: retry, or the way back"),
    ("way back", "the way back is taken at once, without asking"),
)


@dataclass(frozen=True)
class TimetableRow:
    """One step. `moment` and `local` stand only at the first step of a phase; `seconds` is how long it should take,
    `span` the least and the most of it where that is known, and `rehearsed` says that only a rehearsal knows it."""

    moment: str
    local: str
    phase: str
    step: PlannedStep
    seconds: float | None = None
    span: tuple[float, float] | None = None
    rehearsed: bool = False

    @property
    def expected(self) -> str:
        """How long it should take, in the fewest words; empty where nobody knows."""
        return "" if self.seconds is None else format_duration(self.seconds)

    @property
    def takes(self) -> str:
        """How long it should take, in words; empty where nobody knows."""
        if self.seconds is None:
            return ""
        between = "" if self.span is None else f" ({' to '.join(map(format_duration, self.span))})"
        return format_duration(self.seconds) + between + (" (rehearsed)" if self.rehearsed else "")

    @property
    def on_failure(self) -> str:
        """What a failure leads to, in words."""
        return FAILURES[self.step.on_failure]


def timetable(
    plan: Plan,
    day: date,
    seconds: Mapping[str, float] | None = None,
    spans: Spans | None = None,
    rehearsed: Collection[str] = (),
) -> list[TimetableRow]:
    """The steps with their moments relative to the launch day `day`; `seconds` and `spans` by step id where known.

    Args:
        rehearsed: the steps of which only a rehearsal knows how long they take.
    """
    rows = []
    for step in (*plan.steps, *plan.standby):
        moment = local = ""
        if step.at is not None:
            at = datetime.fromisoformat(step.at)
            days = (at.date() - day).days
            moment = f"T{days:+d} {at:%H:%M}" if days else f"T {at:%H:%M}"
            local = f"{at:%a %Y-%m-%d %H:%M}"
        phase, takes = PHASES.get(step.phase, step.phase), (seconds or {}).get(step.id)
        rows.append(TimetableRow(moment, local, phase, step, takes, (spans or {}).get(step.id), step.id in rehearsed))
    return rows


def title(plan: Plan) -> str:
    """What the timetable is about, in a line."""
    return f"{plan.application} {plan.old} -> {plan.new}, launch {plan.launch_id}"


def markdown(
    plan: Plan,
    day: date,
    seconds: Mapping[str, float] | None = None,
    spans: Spans | None = None,
    rehearsed: Collection[str] = (),
) -> str:
    """The timetable as a Markdown table."""
    lines = [
        f"# {cell(title(plan))}",
        "",
        f"Times are {plan.timezone}. Plan `{plan.digest[:16]}`.",
        "",
        "| T | when | step | takes | runs | on failure |",
        "|---|---|---|---|---|---|",
    ]
    for row in timetable(plan, day, seconds, spans, rehearsed):
        name = f"**Gate: {cell(row.step.title)}**" if row.step.gate else cell(row.step.title)
        runs = "<br>".join(f"`{cell(command)}`" for command in row.step.commands)
        lines.append(f"| {row.moment} | {row.local} | {name} | {row.takes} | {runs} | {row.on_failure} |")
    lines += ["", *(f"- **{word}**: {meaning}" for word, meaning in LEGEND)]
    return "\n".join(lines) + "\n"


def cell(value: str) -> str:
    """Text that cannot end a table's cell."""
    return value.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("\n", " ")


def timetable_page(
    plan: Plan,
    day: date,
    seconds: Mapping[str, float] | None = None,
    spans: Spans | None = None,
    rehearsed: Collection[str] = (),
) -> str:
    """The timetable as a self-contained page."""
    head = (
        f'<div class="over"><span>Plan <code>{plan.digest[:16]}</code> of launch <code>{escape(plan.launch_id)}'
        f"</code></span><span>times are {escape(plan.timezone)}</span></div>"
        f"<h1>{escape(plan.application)} {escape(plan.old)} → {escape(plan.new)}</h1>"
    )
    rows = "".join(_page_row(row) for row in timetable(plan, day, seconds, spans, rehearsed))
    legend = "".join(f"<span><b>{word}</b>: {meaning}</span>" for word, meaning in LEGEND)
    columns = "<tr><th>T</th><th>When</th><th>Step</th><th>Takes</th><th>Runs</th><th>On failure</th></tr>"
    return page(
        f"{plan.application} {plan.new}: timetable",
        f'{head}<div class="frame"><table>{columns}{rows}</table></div><div class="legend">{legend}</div>',
    )


def _page_row(row: TimetableRow) -> str:
    runs = "<br>".join(f"<code>{escape(command)}</code>" for command in row.step.commands)
    gate = '<span class="chip waiting">gate</span> ' if row.step.gate else ""
    moment, local = (text.replace(" ", "&nbsp;") for text in (row.moment, row.local))
    return (
        f'<tr><td class="moment"><b>{moment}</b></td><td>{local}</td>'
        f'<td>{gate}{escape(row.step.title)}</td><td>{row.takes}</td><td class="long">{runs}</td>'
        f"<td>{row.on_failure}</td></tr>"
    )
