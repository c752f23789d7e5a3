"""`safepoint restore`: bring a snapshot back, into a new database or in the place of the live one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.launch import PlanOption
from safepoint.cli.progress import shown
from safepoint.cli.saying import echo
from safepoint.errors import PlanFileError

if TYPE_CHECKING:
    from safepoint.backup.placement import Placed
    from safepoint.launch.snapshots.restoring import Replaced

SnapshotArgument = Annotated[str, typer.Argument(help="The snapshot's id, as `safepoint backups` shows it.")]
FromOption = Annotated[str | None, typer.Option("--from", help="The store to take it from, though it may be here.")]
IdentityOption = Annotated[
    Path | None, typer.Option("--identity", help="The age identity file that opens an encrypted snapshot.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


def restore(
    snapshot_id: SnapshotArgument,
    into: Annotated[str | None, typer.Option("--into", help="The name of the new database.")] = None,
    over: Annotated[
        bool, typer.Option("--over", help="Take the live database's place; it is kept under another name.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this table or schema; may be given again.")
    ] = None,
    from_: FromOption = None,
    identity: IdentityOption = None,
    plan: PlanOption = Path("launch.toml"),
    json_: JsonOption = False,
) -> None:
    """Bring a snapshot back, compared row by row: into a new database, or in the live one's place."""
    _refuse_both(snapshot_id, into, over=over, only=only)
    from safepoint.config import load
    from safepoint.launch.snapshots.restoring import restore_into, restore_over
    from safepoint.launch.snapshots.snapshots import at_hand

    plan_file = load(plan)
    with (
        shown(quiet=json_) as report,
        at_hand(plan_file, snapshot_id, from_, identity=identity, report=report) as folder,
    ):
        done: Placed | Replaced
        if into is not None:
            done = restore_into(plan_file, folder, into, only=tuple(only or ()), report=report)
        else:
            done = restore_over(plan_file, folder, report=report)
    if json_:
        import json

        echo(json.dumps(done.as_json()))
        return
    echo("\n".join(lines_of(done)))


def _refuse_both(snapshot_id: str, into: str | None, *, over: bool, only: list[str] | None) -> None:
    if (into is None) != over:
        raise PlanFileError(
            "Say where the snapshot is to go: --into NAME or --over."
            if into is None
            else "--into and --over exclude each other.",
            subject=snapshot_id,
            remedy=f"`safepoint restore {snapshot_id} --into NAME` makes a new database and touches nothing else; "
            "`--over` lets it take the live one's place, which is kept under another name.",
        )
    if over and only:
        raise PlanFileError(
            "--only goes into a new database, never over existing rows.",
            subject="--only",
            remedy="Use --into NAME, then copy the rows that you want.",
        )


def lines_of(done: Placed | Replaced) -> list[str]:
    """What is there now, and what is to be done next. Pure."""
    from safepoint.backup.placement import Placed
    from safepoint.config import format_duration

    placed = done if isinstance(done, Placed) else done.placed
    tables = "1 table" if placed.tables == 1 else f"{placed.tables} tables"
    lines = [
        f"{placed.snapshot_id} (taken {placed.taken_at[:16]}) is restored as {placed.database}: "
        f"{placed.rows:,} rows in {tables}, each equal, {format_duration(placed.seconds)}"
    ]
    lines += [f"  only: {', '.join(placed.only)}"] if placed.only else []
    lines += [f"  role {role} was made, without a password: set it with \\password" for role in placed.roles_made]
    lines += [f"  note: {note}" for note in placed.notes]
    if not isinstance(done, Placed):
        lines += [
            f"  it is live as {done.live} now; nobody could connect for {format_duration(done.seconds_out)}",
            f"  the former database is kept as {done.kept_as}, with all that was written since the snapshot",
            f"  to bring it back: {'; '.join(done.undo)};",
            "  restart the application and clear its cache: its sessions were ended, and it remembers the former one",
        ]
    return lines
