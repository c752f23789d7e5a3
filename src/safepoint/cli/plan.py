"""`safepoint plan`: the timetable of a launch, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from safepoint.launch.plan import Plan


def plan(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="Answer the plan as JSON.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Answer the timetable as Markdown.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the timetable as a page.")] = None,
    ics: Annotated[Path | None, typer.Option("--ics", help="Write the phases as calendar events.")] = None,
) -> None:
    """Show what would run when, in the plan's time zone; nothing is touched."""
    import json
    from datetime import UTC, datetime

    from safepoint.cli.report import write
    from safepoint.config import load
    from safepoint.launch.estimates import estimates
    from safepoint.launch.plan import make_plan, phase_starts

    plan_file = load(plan)
    made = make_plan(plan_file)
    day = plan_file.launch.date
    seconds = estimates(plan_file)
    if html is not None:
        from safepoint.launch.report.timetable import timetable_page

        write(html, timetable_page(made, day, seconds))
    if ics is not None:
        from safepoint.launch.calendar import calendar

        write(ics, calendar(made, phase_starts(plan_file), datetime.now(UTC)))
    if json_:
        typer.echo(json.dumps({**made.as_json(), "digest": made.digest, "estimated_seconds": seconds}))
    elif md:
        from safepoint.launch.report.timetable import markdown

        typer.echo(markdown(made, day, seconds), nl=False)
    elif html is not None or ics is not None:
        typer.echo("\n".join(str(path) for path in (html, ics) if path is not None))
    else:
        _show(made, day, seconds)


def _show(made: Plan, day: date, seconds: Mapping[str, float]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from safepoint.launch.report.timetable import LEGEND, timetable, title

    console = Console(highlight=False)
    wide = console.size.width >= 100
    console.print(Text(title(made), style="bold"))
    console.print(Text(f"times are {made.timezone}; plan {made.digest[:16]}\n", style="dim"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    table.add_column("T", no_wrap=True, style="bold")
    if wide:
        table.add_column("when", no_wrap=True)
    table.add_column("step and what it runs", overflow="fold", ratio=1)
    table.add_column("takes", no_wrap=True, justify="right")
    table.add_column("on failure", no_wrap=True)
    for number, row in enumerate(timetable(made, day, seconds)):
        if row.moment and number:
            table.add_section()
        name = Text(f"◆ {row.step.title}", style="bold magenta") if row.step.gate else Text(row.step.title)
        cells: list[str | Text] = [row.moment, *([row.local] if wide else []), name]
        for command in row.step.commands:
            name.append(f"\n  {command}", style="not bold dim")
        table.add_row(*cells, row.takes, row.on_failure)
    console.print(table)
    console.print()
    if len(seconds) <= 2:
        console.print(Text("  takes     measured in earlier launches; there has been none yet", style="dim"))
    for word, meaning in LEGEND:
        console.print(Text(f"  {word:<9} {meaning}", style="dim"))
