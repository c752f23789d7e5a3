"""`safepoint backup`, `verify`, `backups`: snapshots outside a launch."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from safepoint.cli.launch import PlanOption

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


def backup(plan: PlanOption = Path("launch.toml"), json_: JsonOption = False) -> None:
    """Take a snapshot now, prove it, and store it."""
    from safepoint.backup.proof import prove
    from safepoint.backup.shelf import store_snapshot
    from safepoint.backup.snapshot import take_snapshot
    from safepoint.config import format_bytes, format_duration, load
    from safepoint.hosts import open_host
    from safepoint.postgres.binaries import for_server
    from safepoint.postgres.catalog import survey
    from safepoint.postgres.connections import connect
    from safepoint.postgres.target import target
    from safepoint.stores import open_store

    plan_file = load(plan)
    database = target(plan_file.database)
    with connect(database) as connection:
        version = survey(connection).server_version_num
    settings = plan_file.database
    snapshot_id = f"{plan_file.launch.application}-manual-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    manifest = take_snapshot(
        database,
        open_host(settings.tools_host, plan_file.host(settings.tools_host), plan_file.folder),
        installation=for_server(version, settings.tools),
        remote=database.at(settings.tools_address),
        tools_folder=settings.tools,
        folder=plan_file.state / "snapshots",
        snapshot_id=snapshot_id,
        launch_id=None,
        jobs=plan_file.snapshot.jobs,
        compress=plan_file.snapshot.compress,
    )
    folder = plan_file.state / "snapshots" / snapshot_id
    proof = prove(folder, scratch_parent=plan_file.state / "scratch", jobs=plan_file.snapshot.jobs)
    stored = [store_snapshot(folder, open_store(store, plan_file.folder)) for store in plan_file.stores]
    if json_:
        import json

        answer = {"id": manifest.id, "proof": proof.as_json(), "stores": [one.as_json() for one in stored]}
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"{manifest.id}: {format_bytes(manifest.total_bytes)}, LSN {manifest.lsn}")
    typer.echo(f"  proven: {proof.rows:,} rows in {proof.tables} tables equal, {format_duration(proof.seconds)}")
    for store in plan_file.stores:
        typer.echo(f"  stored in {store.name}, read back and equal")


def verify(
    snapshot_id: Annotated[str, typer.Argument(help="The snapshot's id, as `safepoint backups` shows it.")],
    plan: PlanOption = Path("launch.toml"),
    json_: JsonOption = False,
) -> None:
    """Prove a snapshot: restore it into a scratch server and compare every row."""
    from safepoint.backup.proof import prove
    from safepoint.config import format_duration, load
    from safepoint.errors import StoreError

    plan_file = load(plan)
    folder = plan_file.state / "snapshots" / snapshot_id
    if not folder.is_dir():
        raise StoreError(
            f"There is no snapshot {snapshot_id} here.", subject=snapshot_id, remedy="List them: `safepoint backups`."
        )
    proof = prove(folder, scratch_parent=plan_file.state / "scratch", jobs=plan_file.snapshot.jobs)
    if json_:
        import json

        typer.echo(json.dumps(proof.as_json()))
        return
    typer.echo(
        f"{snapshot_id} is proven: {proof.rows:,} rows in {proof.tables} tables equal, "
        f"fingerprint {proof.digest[:16]}, {format_duration(proof.seconds)}"
    )


def backups(plan: PlanOption = Path("launch.toml"), json_: JsonOption = False) -> None:
    """List the snapshots: when, how big, proven or not, where, for which launch."""
    from safepoint.backup.shelf import list_snapshots
    from safepoint.config import format_bytes, load
    from safepoint.stores import open_store

    plan_file = load(plan)
    stores = {store.name: open_store(store, plan_file.folder) for store in plan_file.stores}
    found = list_snapshots(plan_file.state / "snapshots", stores)
    if json_:
        import json

        typer.echo(json.dumps([one.as_json() for one in found]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("Snapshot", "Taken", "Size", "Proven", "Where", "Launch")
    for one in found:
        table.add_row(
            one.id,
            f"{one.taken:%Y-%m-%d %H:%M}",
            format_bytes(one.bytes),
            "yes" if one.proven else "no",
            ", ".join(one.where),
            one.launch_id or "",
        )
    Console().print(table)
