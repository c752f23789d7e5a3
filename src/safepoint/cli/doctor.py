"""`safepoint doctor`: everything that a launch needs, looked at, each with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.progress import told_when_slow
from safepoint.cli.saying import echo, plan_typed
from safepoint.errors import ExitCode, SafepointError
from safepoint.launch.typed import typed

if TYPE_CHECKING:
    from safepoint.config import PlanFile
    from safepoint.launch.doctor.finding import Finding

_MARKS = {"ok": ("green", "ok"), "warning": ("yellow", "warning"), "failure": ("red", "FAILURE")}


def doctor(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Check everything that the launch needs; each finding has its remedy. Code 3 when something would stop it."""
    from safepoint.config import load
    from safepoint.launch.doctor.doctor import examine, failures

    plan_file = load(plan)
    with told_when_slow("The releases, the database and the stores are still being looked at"):
        findings = examine(plan_file)
    if json_:
        import json

        counts = {verdict: sum(one.verdict == verdict for one in findings) for verdict in _MARKS}
        echo(json.dumps({"findings": [one.as_json() for one in findings], "counts": counts}))
    else:
        render(findings, _begun(plan_file))
    if failures(findings):
        raise typer.Exit(int(ExitCode.NO_GO))


def _begun(plan_file: PlanFile) -> bool:
    """Whether the launch is past what this looks at; one that failed or was aborted begins anew."""
    from safepoint.launch.begin import entries_of, status_of

    try:
        entries = entries_of(plan_file)
    except SafepointError:  # it is a finding
        return False
    return bool(entries) and status_of(entries) not in ("failed", "aborted")


def render(findings: tuple[Finding, ...], begun: bool) -> None:
    """One line a check, its remedy below; the verdict last."""
    from rich.table import Table
    from rich.text import Text

    from safepoint.cli.terminal import Terminal

    console = Terminal()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in findings:
        colour, word = _MARKS[one.verdict]
        message = Text(typed(one.message, plan_typed()))
        if one.remedy is not None and one.verdict != "ok":
            message.append(f"\n→ {typed(one.remedy, plan_typed())}", style="bold")
        table.add_row(Text(word, style=colour), one.check, message)
    console.print(table)
    failed = sum(one.verdict == "failure" for one in findings)
    warned = sum(one.verdict == "warning" for one in findings)
    end = "The launch can begin." if not failed else "The launch must not begin before the failures are gone."
    end = "The launch has begun, and these are checks of before: see `safepoint status`." if begun else end
    console.print(f"\n{len(findings)} checks: {_count(failed, 'failure')}, {_count(warned, 'warning')}. {end}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
