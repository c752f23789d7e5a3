"""`safepoint rehearse`: the migrations on a restored copy, and what they will do."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safepoint.cli.launch import PlanOption
from safepoint.cli.order import ordered
from safepoint.cli.progress import shown
from safepoint.cli.saying import echo
from safepoint.cli.tables import WIDTH_ELSEWHERE, wrapped
from safepoint.errors import ExitCode, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from safepoint.cli.terminal import Terminal

_STYLES = {"pass": "green", "fail": "bold red", "warning": "yellow", "exact": "green", "loses": "yellow"}
_STYLES["not rehearsed"] = "yellow"
_GRADES = {"breaks": "bold red", "locks": "yellow", "risk": "yellow", "hint": ""}


def rehearse(
    plan: PlanOption = Path("launch.toml"),
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", help="The snapshot to restore; else the newest proven one.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Migrate a restored copy with the new release: how long, which locks, what changes, can it be undone."""
    from safepoint.config import load
    from safepoint.launch.rehearsal.rehearsals import PAGE, rehearsal_folder
    from safepoint.launch.rehearsal.rehearsing import rehearse as rehearse_it

    plan_file = load(plan)
    with ordered("the rehearsal is ended, and its copies are removed") as order:
        try:
            with shown(quiet=json_) as report:
                done = rehearse_it(plan_file, snapshot, report=report, cancelled=order)
        except Interrupted as error:
            raise _ended(plan, order.name) from error
    data = done.as_json()
    if json_:
        import json

        echo(json.dumps(data))
    else:
        from safepoint.cli.terminal import Terminal

        _show(Terminal(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE), data)
        echo(f"\nreport: {rehearsal_folder(plan_file, done.snapshot_id) / PAGE}")
    if done.verdict != "go":
        raise typer.Exit(int(ExitCode.NO_GO))


def _ended(plan: Path, by: str | None) -> Interrupted:
    return Interrupted(
        f"The rehearsal was ended by {by or 'an order'}. The live database was only read and is as it was; the scratch "
        "server with every copy in it is removed. What an earlier rehearsal found still stands.",
        remedy=f"`safepoint rehearse --plan {plan}` begins anew. A snapshot that was proven is not taken again.",
    )


def _show(console: Terminal, data: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    from safepoint.config import format_bytes, format_duration

    migrate = data["migrate"]
    console.print(Text(f"Rehearsal of {data['release']} on {data['snapshot']['id']}: {data['verdict']}", style="bold"))
    for reason in data["reasons"]:
        console.print(Text(f"  {reason}", style="bold red"))
    for line in wrapped(_as_of(data), console.width):
        console.print(Text(line), soft_wrap=True)
    label = max((len(run["label"]) for run in migrate["migrations"]), default=9)
    wide = console.width >= label + 80  # else neither a bar, nor what it would leave of the locks' names
    table = Table(
        Column("Migration", no_wrap=True, min_width=label),
        Column("took", no_wrap=True),
        *([Column("", overflow="crop", max_width=20)] if wide else []),
        Column("rows", no_wrap=True),
        Column("log", no_wrap=True),
        *([Column("strongest locks", overflow="fold")] if wide else []),  # looked for elsewhere: names are not cut
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    below: list[str] = []
    longest = max((run["seconds"] for run in migrate["migrations"]), default=0.0) or 1.0
    for run in migrate["migrations"]:
        locks = ", ".join(
            f"{lock['table']} ({lock['blocks']} out {_held(lock['seconds'])})"
            for lock in run["locks"]
            if lock["blocks"]
        )
        bar = Text("█" * max(1, round(20 * run["seconds"] / longest)), style="cyan" if run["ok"] else "red")
        rows = "" if run["rows"] is None else f"{run['rows']:,}"
        log = format_bytes(run["wal_bytes"])
        told = (Text(run["label"]), format_duration(run["seconds"]))
        table.add_row(*told, *([bar, rows, log, Text(locks)] if wide else [rows, log]))
        below += wrapped(f"{run['label']} locks {locks}", console.width) if locks and not wide else []
    console.print(table)
    for line in below:
        console.print(Text(line), soft_wrap=True)
    for line in _lines(data):
        console.print(line)


def _as_of(data: Mapping[str, Any]) -> str:
    """Of when the rows are that were migrated. Who mended them since rehearses the same ones again. Pure."""
    from safepoint.config import format_duration

    taken, made = (datetime.fromisoformat(at) for at in (data["snapshot"]["taken_at"], data["made_at"]))
    age = format_duration(max(0.0, (made - taken).total_seconds()))
    told = f"Its rows are those of {taken.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {age} before."
    if data["verdict"] == "go":
        return told
    return (
        f"{told} What was mended on the live database since then is in no rehearsal until `safepoint backup` was run."
    )


def _heading(text: str) -> Any:
    from rich.text import Text

    return Text(f"\n{text}", style="bold")


def _held(seconds: float) -> str:
    from safepoint.config import format_duration

    return f"for {format_duration(seconds)}" if seconds else "briefly"


def _lines(data: Mapping[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    from safepoint.config import format_bytes, format_duration

    migrate, foreseen, undo = data["migrate"], data["forecast"], data["undo"]
    yield Text(
        f"\nmigrate took {format_duration(migrate['seconds'])}; {format_bytes(migrate['peak_bytes'])} more disk at the "
        f"peak; rewritten: {', '.join(migrate['rewrites']) or 'no table'}"
    )
    if foreseen:
        yield from _foreseen(foreseen)
    yield _heading("What must hold")
    for check in data["checks"]:
        verdict = "open" if check["verdict"] == "not rehearsed" else check["verdict"]
        yield Text(f"{verdict:<8}{check['name']}: {check['summary']}", style=_STYLES[check["verdict"]])
    yield _heading("What to look at in the migrations")
    yield from _lint(data["lint"])
    yield _heading("What changed")
    for change in data["changes"]:
        if change["kind"] != "identical":
            yield from _change(change)
    yield _heading("Can it be taken back?")
    yield from _way_back(data["way_back"], data["trial"])
    if undo:
        yield from _undo(undo)
    for note in data["notes"]:
        yield Text(f"note: {note}", style="dim")


def _foreseen(foreseen: Mapping[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    from safepoint.config import format_duration

    for name, title in (("migrate", "live migrate"), ("window", "window so far known")):
        found = foreseen[name]
        low, high = format_duration(found["low"]), format_duration(found["high"])
        yield Text(f"{title}: about {format_duration(found['expected'])} ({low} to {high})", style="bold")
    if foreseen["fixed"]:
        steps = (
            f"{name} {format_duration(seconds)}{'*' if name in foreseen['rehearsed'] else ''}"
            for name, seconds in foreseen["fixed"].items()
        )
        yield Text(f"  beside migrate: {', '.join(steps)} (* as long as on the copy)", style="dim")
    if foreseen["speeds"]:
        by = {"scanning": (foreseen["ratio"] or {}).get("warm"), "writing": foreseen["speeds"]["write"]}
        by["a small sync"] = foreseen["speeds"]["sync"]
        told = ", ".join(f"{name} {'not corrected' if one is None else f'× {one:.2f}'}" for name, one in by.items())
        yield Text(f"  live against the copy: {told}", style="dim")
    if foreseen["disk"]:
        yield Text(_disk(foreseen["disk"]), style="bold")
    for unknown in foreseen["unknown"]:
        yield Text(f"  not known: {unknown}", style="dim")


def _disk(disk: Mapping[str, Any]) -> str:
    from safepoint.config import format_bytes

    free = "how much is free there cannot be seen" if disk["free"] is None else f"{format_bytes(disk['free'])} are free"
    return f"live disk at the peak: {format_bytes(disk['needed'])} more, twin included; {free}"


def _lint(lint: Mapping[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    for one in lint["findings"]:
        if one["waived"] is not None:
            yield Text(f"waived  {one['rule']} at {one['migration']}: {one['waived']}", style="dim")
            continue
        at = f", line {one['line']} of its SQL" if one["line"] else ""
        yield Text(f"{one['grade']:<8}{one['rule']} at {one['migration']}{at}: {one['why']}", _GRADES[one["grade"]])
        yield Text(f"          {one['where']}", style="dim")
        yield Text(f"          safer: {one['safer']}", style="dim")
    for note in lint["notes"]:
        yield Text(f"note: {note}", style="dim")


def _change(change: Mapping[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    name = change["before"] or change["after"]
    renamed = f" → {change['after']}" if change["kind"] == "renamed" else ""
    rows = f"+{change['added']:,} −{change['removed']:,} rows" if change["added"] or change["removed"] else ""
    yield Text(f"{change['kind']:<8}{name}{renamed} {rows}".rstrip())
    for column in change["columns"]:
        if column["kind"] != "identical":
            before, after = column["before"], column["after"]
            named = f"{before} → {after}" if before and after and before != after else before or after
            yield Text(
                f"          {named}: {column['kind']}{', ' if column['detail'] else ''}{column['detail']}", "dim"
            )


def _way_back(proven: Mapping[str, Any] | None, trial: Mapping[str, Any] | None) -> Iterator[Any]:
    from rich.text import Text

    if proven is None:
        return
    if not proven["proven"]:
        yield Text("way back  not proven: a rollback will list instead of carrying", style="yellow")
        for doubt in proven["doubts"]:
            yield Text(f"          {doubt}", style="dim")
        yield Text("          `safepoint plan --way-back` shows each column, and what to write into the plan file")
        return
    yield Text(
        f"way back  proven: {proven['rows']:,} rows of {proven['tables']} tables come back as they were", "green"
    )
    if trial is None:
        return
    if trial["verdict"] == "not tried":
        yield Text(f"rollback  not rehearsed: {'; '.join(trial['reasons'])}", style="yellow")
        return
    kinds = ", ".join(f"{kind} in {count}" for kind, count in trial["writes"].items())
    told = f"{trial['carried']} of {trial['transactions']} generated transactions carried back ({kinds} tables)"
    yield Text(f"rollback  rehearsed: {told}", style=_STYLES["pass" if trial["verdict"] == "equal" else "fail"])
    for reason in trial["reasons"]:
        yield Text(f"          {reason}", style="dim")
    for refused in trial["refused"]:
        yield Text(f"          not tried: {refused}", style="dim")


def _undo(undo: Mapping[str, Any]) -> Iterator[Any]:
    from rich.text import Text

    exact = sum(table["verdict"] == "exact" for table in undo["tables"])
    told = f"{exact} of {len(undo['tables'])} tables"
    if undo["verdict"] == "fails":
        yield Text(f"undo    fails at {undo['migration'] or 'its start'}: {undo['error']}", style="bold red")
        yield Text(f"          {told} are as before where it stopped", style="dim")
    else:
        yield Text(f"undo    runs; {told} come back exactly", _STYLES[undo["verdict"]])
    for table in undo["tables"]:
        for lost in table["lost"]:
            yield Text(f"          {table['name']}: {lost}", style="dim")
        for one in table["examples"]:
            told = "; ".join(f"{value['column']}: {value['before']} → {value['after']}" for value in one["values"])
            yield Text(f"            {one['key']} {told or one['fate']}", style="dim")
    for line in undo["structure"]:
        yield Text(f"          {line}", style="dim")
