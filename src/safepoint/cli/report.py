"""`safepoint report`: what a launch did and proved, from its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safepoint.cli.saying import echo


def report(
    plan: Annotated[Path, typer.Option("--plan", help="The plan file.")] = Path("launch.toml"),
    html: Annotated[
        Path | None, typer.Option("--html", help="Where the page is written; else beside the ledger.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Answer the whole report as JSON, and write no page.")] = False,
) -> None:
    """Write the report of the launch as one self-contained page."""
    import json

    from safepoint.cli.launch import refuse_without_launch
    from safepoint.config import load
    from safepoint.launch.begin import entries_of, launch_folder
    from safepoint.launch.report import build, render

    plan_file = load(plan)
    refuse_without_launch(plan_file)
    built = build(entries_of(plan_file))
    if json_:
        echo(json.dumps(built))
        return
    target = html or launch_folder(plan_file) / "report.html"
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
