"""`safepoint report`: what a launch did and proved, from its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safepoint.cli.saying import echo
from safepoint.cli.standing_plan import standing_plan


def report(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    html: Annotated[
        Path | None, typer.Option("--html", help="Where the page is written; else beside the ledger.")
    ] = None,
    launch: Annotated[
        str | None, typer.Option("--launch", help="Of this launch, which was before the plan file's present one.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Answer the whole report as JSON, and write no page.")] = False,
) -> None:
    """Write the report of the launch as one self-contained page."""
    import json

    from safepoint.launch.history import ledger_of
    from safepoint.launch.lock import held
    from safepoint.launch.report import build, render

    plan_file = standing_plan(plan)
    path, entries = ledger_of(plan_file, launch)
    built = build(entries, {"conducted": held(plan_file.conductor_lock, path.parent.name)})
    if json_:
        echo(json.dumps(built))
        return
    target = html or path.with_name("report.html")
    write(target, render(built))
    echo(f"{built['standing']['headline']}\n{target}")


def write(target: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        SafepointError: it cannot be written there.
    """
    from safepoint.errors import SafepointError

    beside = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="")
        beside.replace(target)
    except OSError as error:
        raise SafepointError(
            f"{target} cannot be written: {error.strerror or error}.",
            subject=str(target),
            remedy="Name another place.",
        ) from error
