"""`safepoint backup`, `verify`, `backups`: snapshots outside a launch."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.launch import PlanOption
from safepoint.cli.progress import shown
from safepoint.cli.restore import FromOption, IdentityOption, JsonOption, SnapshotArgument
from safepoint.cli.saying import echo
from safepoint.cli.tables import show_table
from safepoint.errors import ExitCode

if TYPE_CHECKING:
    from safepoint.backup.manifest import Manifest
    from safepoint.backup.proof import Proof
    from safepoint.backup.shelf import Listed, Outcome
    from safepoint.config import PlanFile
    from safepoint.errors import StoreError
    from safepoint.launch.snapshots.comparing import Comparison
    from safepoint.progress import Report


def backup(plan: PlanOption = Path("launch.toml"), json_: JsonOption = False) -> None:
    """Take a snapshot now, prove it, and store it in every store."""
    from safepoint.backup.proof import prove
    from safepoint.backup.shelf import in_use, left_unproven, store_everywhere
    from safepoint.config import load
    from safepoint.launch.snapshots.snapshots import local_tools, refuse_fenced, scratch_of, snapshots_folder, stores_of

    plan_file = load(plan)
    stores = stores_of(plan_file)  # a wrong recipient or a missing password is told before the work
    refuse_fenced(plan_file)
    with shown(quiet=json_) as report:
        manifest = _taken(plan_file, report)
        folder = snapshots_folder(plan_file) / manifest.id
        with in_use(folder):
            with _said_where_interrupted(manifest.id):
                proof = prove(
                    folder,
                    scratch_parent=plan_file.state / "scratch",
                    scratch=scratch_of(plan_file),
                    jobs=plan_file.snapshot.jobs,
                    report=report,
                    extra=local_tools(plan_file),
                )
            outcomes = store_everywhere(folder, stores.values(), report=report)
    unproven = left_unproven(snapshots_folder(plan_file))
    if json_:
        import json

        answer = {
            "id": manifest.id,
            "taken": manifest.taken_at.isoformat(),
            "dated": manifest.dated,
            "bytes": manifest.total_bytes,
            "lsn": manifest.lsn,
            "seconds": dict(manifest.seconds),
            "proof": proof.as_json(),
            "stores": [one.as_json() for one in outcomes],
            "unproven": [one.id for one in unproven],
        }
        echo(json.dumps(answer))
    else:
        echo("\n".join([*_taken_lines(plan_file, manifest, proof, outcomes), *_unproven_lines(unproven)]))
    if any(one.error is not None for one in outcomes):
        raise typer.Exit(int(ExitCode.FAILED))


@contextmanager
def _said_where_interrupted(snapshot_id: str) -> Iterator[None]:
    """What stays of a backup that is ended in its proof: a whole snapshot, which nobody may take for a good one."""
    try:
        yield
    except KeyboardInterrupt:
        echo(
            f"safepoint: {snapshot_id} was taken, and stays here; it is NOT proven, and in no store. "
            f"`safepoint verify {snapshot_id}` proves it; or take another one: `safepoint backup`.",
            err=True,
        )
        raise


def _unproven_lines(unproven: tuple[Listed, ...]) -> list[str]:
    """Of those whose proof was interrupted, or failed, nobody else speaks. Pure."""
    return [
        f"  {one.id} of {one.taken:%Y-%m-%d %H:%M} UTC is not proven, and nobody is proving it: "
        f"`safepoint verify {one.id}`"
        for one in unproven
    ]


def _taken(plan_file: PlanFile, report: Report) -> Manifest:
    from safepoint.launch.snapshots.snapshots import take

    return take(plan_file, _new_id(plan_file.launch.application, datetime.now(UTC)), None, report=report)


def _new_id(application: str, now: datetime) -> str:
    """An id of its own also where another machine, whose timetable is the same, takes one at the same second."""
    return f"{application}-manual-{secrets.token_hex(3)}-{now:%Y%m%dT%H%M%SZ}"


def _taken_lines(plan_file: PlanFile, manifest: Manifest, proof: Proof, outcomes: tuple[Outcome, ...]) -> list[str]:
    from safepoint.backup.snapshot import GENERAL
    from safepoint.config import format_bytes, format_duration

    lines = [
        f"{manifest.id}: {format_bytes(manifest.total_bytes)}, LSN {manifest.lsn}",
        f"  proven: {proof.rows:,} rows in {proof.tables} tables equal, {format_duration(proof.seconds)}",
    ]
    lines += [f"  note: {note}" for note in dict.fromkeys((*manifest.notes[len(GENERAL) :], *proof.notes))]
    sealed = {store.name for store in plan_file.stores if store.encrypt_to}
    for one in outcomes:
        if one.error is None:
            how = "encrypted, read back and equal" if one.store in sealed else "read back and equal"
            lines.append(f"  stored in {one.store}, {how}")
        else:
            lines.append(f"  NOT stored in {one.store}: {one.error.message} {one.error.remedy or ''}")
    return lines


def verify(
    snapshot_id: SnapshotArgument,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in which rows and columns the live database differs from it.")
    ] = False,
    against: Annotated[
        str | None, typer.Option("--against", help="With --explain: another database of that server.")
    ] = None,
    from_: FromOption = None,
    identity: IdentityOption = None,
    plan: PlanOption = Path("launch.toml"),
    json_: JsonOption = False,
) -> None:
    """Prove a snapshot: restore it into a scratch server and compare every row."""
    from safepoint.backup.proof import prove
    from safepoint.config import format_duration, load
    from safepoint.launch.snapshots.comparing import comparer
    from safepoint.launch.snapshots.snapshots import at_hand, local_tools, scratch_of
    from safepoint.postgres.target import target

    plan_file = load(plan)
    compared: list[Comparison] = []
    with (
        shown(quiet=json_) as report,
        at_hand(plan_file, snapshot_id, from_, identity=identity, report=report) as folder,
    ):
        look = None
        if explain or against:
            live = target(plan_file.database).on(against or plan_file.database.name)
            look = comparer(live, compared.append, jobs=plan_file.snapshot.jobs, report=report)
        proof = prove(
            folder,
            scratch_parent=plan_file.state / "scratch",
            scratch=scratch_of(plan_file),
            jobs=plan_file.snapshot.jobs,
            report=report,
            extra=local_tools(plan_file),
            look=look,
        )
    if json_:
        import json

        comparison = {"comparison": compared[0].as_json()} if compared else {}
        echo(json.dumps({**proof.as_json(), **comparison}))
        return
    where = f", as it is in {from_}," if from_ else ""
    echo(
        f"{snapshot_id}{where} is proven: {proof.rows:,} rows in {proof.tables} tables equal, "
        f"fingerprint {proof.digest[:16]}, {format_duration(proof.seconds)}"
    )
    for note in proof.notes:
        echo(f"  note: {note}")
    for one in compared:
        echo("\n".join(one.lines()))


def backups(plan: PlanOption = Path("launch.toml"), json_: JsonOption = False) -> None:
    """List the snapshots: when, how big, how old, proven or not, where, for which launch."""
    from safepoint.backup.shelf import left_unproven, list_snapshots
    from safepoint.config import load
    from safepoint.launch.snapshots.snapshots import snapshots_folder, stores_of

    plan_file = load(plan)
    unreachable: dict[str, StoreError] = {}
    found = list_snapshots(snapshots_folder(plan_file), stores_of(plan_file), unreachable=unreachable.__setitem__)
    if json_:
        import json

        # A list, as ever; what could not be looked at is told on standard error and by the exit code.
        echo(json.dumps([one.as_json() for one in found]))
    elif found or not unreachable:
        _show(found, datetime.now(UTC))
        for line in _unproven_lines(left_unproven(snapshots_folder(plan_file))):
            echo(line)
    else:
        echo("No snapshot is known here, and not every place could be looked at:", err=True)
    for name, error in unreachable.items():
        echo(f"{name} could not be listed: {error.message} {error.remedy or ''}", err=True)
    if unreachable:
        raise typer.Exit(int(ExitCode.FAILED))


def _show(found: tuple[Listed, ...], now: datetime) -> None:
    from safepoint.config import format_bytes, format_duration

    if not found:
        echo("There is no snapshot yet: take one with `safepoint backup`.")
        return
    rows = [
        (
            one.id,
            f"{one.taken:%Y-%m-%d %H:%M}",
            format_duration(max(0.0, (now - one.taken).total_seconds())),
            format_bytes(one.bytes),
            f"no: {one.fault}" if one.fault else ("yes" if one.proven else "no"),
            ", ".join(one.where),
            one.launch_id or "",
        )
        for one in found
    ]
    show_table(("Snapshot", "Taken (UTC)", "Age", "Size", "Proven", "Where", "Launch"), rows)
