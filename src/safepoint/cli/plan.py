"""`safepoint plan`: the timetable of a launch, before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.saying import echo

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import date

    from safepoint.cli.terminal import Terminal
    from safepoint.launch.plan import Plan
    from safepoint.launch.report.mapping import MappingTable
    from safepoint.launch.report.timetable import Spans


def plan(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="Answer the plan as JSON.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Answer the timetable as Markdown.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the timetable as a page.")] = None,
    ics: Annotated[Path | None, typer.Option("--ics", help="Write the phases as calendar events.")] = None,
    way_back: Annotated[
        bool, typer.Option("--way-back", help="The table by which a rollback makes old rows of new ones.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="With --way-back: each column, also where nothing changed.")
    ] = False,
) -> None:
    """Show what would run when, in the plan's time zone; nothing is touched."""
    if way_back:
        _way_back(plan, json_=json_, md=md, html=html, ics=ics, everything=all_)
        return
    import json
    from datetime import UTC, datetime

    from safepoint.errors import PlanFileError

    if all_:
        raise PlanFileError(
            "Only the way back is told in short.", subject="--all", remedy="Add --way-back, or leave it out."
        )

    from safepoint.cli.report import write
    from safepoint.config import load
    from safepoint.launch.estimates import estimates, rehearsed, spans
    from safepoint.launch.plan import make_plan, phase_starts

    plan_file = load(plan)
    made = make_plan(plan_file)
    day = plan_file.launch.date
    seconds, between, there = estimates(plan_file), spans(plan_file), rehearsed(plan_file)
    if html is not None:
        from safepoint.launch.report.timetable import timetable_page

        write(html, timetable_page(made, day, seconds, between, there))
    if ics is not None:
        from safepoint.launch.calendar import calendar

        write(ics, calendar(made, phase_starts(plan_file), datetime.now(UTC)))
    if json_:
        known = {"estimated_seconds": seconds, "seconds_between": between, "rehearsed": sorted(there)}
        echo(json.dumps({**made.as_json(), "digest": made.digest, **known}))
    elif md:
        from safepoint.launch.report.timetable import markdown

        echo(markdown(made, day, seconds, between, there), nl=False)
    elif html is not None or ics is not None:
        echo("\n".join(str(path) for path in (html, ics) if path is not None))
    else:
        _show(made, day, seconds, between, there)


def _way_back(plan: Path, *, json_: bool, md: bool, html: Path | None, ics: Path | None, everything: bool) -> None:
    import json
    from datetime import UTC, datetime

    from safepoint.cli.report import write
    from safepoint.config import load
    from safepoint.errors import PlanFileError
    from safepoint.launch.report.mapping import mapping_page, mapping_table, markdown
    from safepoint.launch.wayback.waybacks import newest_way_back
    from safepoint.wayback.trial.roundtrip import Accepted

    if ics is not None:
        raise PlanFileError("The way back has no moments for a calendar.", subject="--ics", remedy="Leave one out.")
    plan_file = load(plan)
    known = newest_way_back(plan_file)
    old, wayback = plan_file.releases.old.version, plan_file.wayback
    accepted = Accepted.of(known.schemas.old, wayback.added_rows, wayback.removed_rows)
    table = mapping_table(known, wayback.mappers, old, datetime.now(UTC), wayback.affected, accepted)
    if html is not None:
        write(html, mapping_page(table))
    if json_:
        echo(json.dumps(table.as_json()))
    elif md:
        echo(markdown(table), nl=False)
    elif html is not None:
        echo(str(html))
    else:
        _show_way_back(table, everything=everything)


def _show_way_back(whole: MappingTable, *, everything: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from safepoint.cli.tables import WIDTH_ELSEWHERE
    from safepoint.cli.terminal import Terminal
    from safepoint.launch.report.mapping import MEANINGS, brief, rows, title

    made, left = (whole, ()) if everything else brief(whole)
    console = Terminal(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE)
    console.print(Text(title(made), style="bold"))
    console.print(Text(f"{made.verdict}\n{made.made}\n", style="dim"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("column", overflow="fold", ratio=2)
    table.add_column("how", no_wrap=True)
    table.add_column("value", overflow="fold", ratio=3)
    table.add_column("where it comes from", overflow="fold", ratio=3)
    for name, line, value in rows(made):
        if name:
            table.add_section()
            table.add_row(Text(name, style="bold"))
        source = Text(line.source, style="dim")
        if line.doubt:
            source.append(f"\n{line.doubt}", style="not dim bold red")
        style = "bold red" if line.doubt else "" if line.kind in ("same", "generated") else "bold"
        table.add_row(f"  {line.column}", Text(line.kind, style=style), Text(value), source)
    console.print(table)
    console.print()
    if left:
        _explain(console, [("the rest", f"{', '.join(left)}: each column is taken as it is (--all lists them).")])
    _explain(console, [("problem", problem) for problem in (*made.problems, *made.doubts)], style="red")
    for words in made.to_write.splitlines():  # to be copied as it is
        console.print(Text(f"  write     {words}", style="bold"))
    _explain(console, [("note", note) for note in made.notes])
    _explain(console, [(kind, MEANINGS[kind]) for kind in made.counts])


def _explain(console: Terminal, words: Sequence[tuple[str, str]], *, style: str = "dim") -> None:
    """Words and what they mean, below a table."""
    from rich.text import Text

    from safepoint.cli.tables import wrapped

    for word, meaning in words:
        first, *rest = wrapped(meaning, console.width - 12)
        console.print(Text("\n".join([f"  {word:<9} {first}", *(f"{'':12}{line}" for line in rest)]), style=style))


def _show(made: Plan, day: date, seconds: Mapping[str, float], between: Spans, there: Collection[str]) -> None:
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from safepoint.cli.terminal import Terminal
    from safepoint.launch.report.timetable import LEGEND, timetable, title

    console = Terminal()
    wide = console.size.width >= 110
    console.print(Text(title(made), style="bold"))
    console.print(Text(f"times are {made.timezone}; plan {made.digest[:16]}\n", style="dim"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("T", no_wrap=True, style="bold")
    if wide:
        table.add_column("when", no_wrap=True)
    table.add_column("step and what it runs", overflow="fold", ratio=1)
    table.add_column("takes", no_wrap=True, justify="right")
    table.add_column("on failure", no_wrap=True)
    for number, row in enumerate(timetable(made, day, seconds, between, there)):
        if row.moment and number:
            table.add_section()
        name = Text(f"◆ {row.step.title}", style="bold magenta") if row.step.gate else Text(row.step.title)
        below = [*row.step.commands, *([] if wide or row.takes == row.expected else [f"takes {row.takes}"])]
        step = Group(name, *(Padding(Text(text, style="dim"), (0, 0, 0, 2)) for text in below))
        table.add_row(
            row.moment, *([row.local] if wide else []), step, row.takes if wide else row.expected, row.on_failure
        )
    console.print(table)
    console.print()
    unknown = ("takes", "measured in earlier launches; there has been none yet")
    _explain(console, [*([unknown] if len(seconds) <= 2 else []), *LEGEND])
