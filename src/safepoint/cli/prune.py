"""`safepoint prune`: let old snapshots go, here and in each store by its own rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.launch import PlanOption
from safepoint.cli.saying import echo
from safepoint.cli.tables import show_table
from safepoint.errors import ExitCode

if TYPE_CHECKING:
    from safepoint.launch.snapshots.pruning import Pruning


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go, and why.")] = False,
    plan: PlanOption = Path("launch.toml"),
    json_: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Let old snapshots go. The newest proven one, and any that a launch still needs, always stay."""
    from datetime import UTC, datetime

    from safepoint.config import load
    from safepoint.launch.snapshots.pruning import carry_out, plan_pruning

    plan_file = load(plan)
    now = datetime.now(UTC)
    found = plan_pruning(plan_file, now)
    if not dry_run:
        found = carry_out(plan_file, found, now)
    if json_:
        import json

        echo(json.dumps({"dry_run": dry_run, **found.as_json()}))
    else:
        _show(found, dry_run=dry_run)
    if found.failed:
        raise typer.Exit(int(ExitCode.FAILED))


def _show(found: Pruning, *, dry_run: bool) -> None:
    from safepoint.config import format_bytes

    words = {"drop": "would go" if dry_run else "goes", "dropped": "gone", "keep": "stays"}
    rows = [
        (
            one.place,
            one.snapshot_id,
            f"{one.taken:%Y-%m-%d %H:%M}",
            format_bytes(one.bytes),
            words.get(one.verdict, one.verdict),
            one.reason,
        )
        for one in found.decisions
    ]
    if rows:
        show_table(("Where", "Snapshot", "Taken (UTC)", "Size", "Verdict", "Why"), rows, whole=2)
    else:
        echo("There are no snapshots.")
    for name, error in found.unreachable.items():
        echo(f"{name}: not looked at, so nothing goes there. {error.message} {error.remedy or ''}")
