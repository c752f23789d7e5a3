"""A plan's folder in which `safepoint backup` was run, and what runs commands on copies of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from awkward import run
from plan_file import LOCAL, PASSWORD_ENV, plan_file
from typer.testing import CliRunner, Result

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.proof import read_proof
from safepoint.backup.shelf import store_snapshot
from safepoint.cli import app
from safepoint.config import PlanFile
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.stores import open_store

TWO_STORES = (
    LOCAL
    + """
[[stores]]
name = "broken"
url = "file:not-a-folder/backups"
"""
)


def safepoint(plan: PlanFile, *words: str) -> Result:
    """Run a command on a plan file."""
    return CliRunner().invoke(app, [*words, "--plan", str(plan.path)])


def answer(result: Result) -> Any:
    """What a command said with `--json`."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.stdout)


@contextmanager
def backed_up_folder(server: Server, folder: Path) -> Iterator[tuple[Path, Target]]:
    """A plan's folder in which `safepoint backup` was run once, with a store that works and one that does not.

    What the command said is in `backup.json`, its exit code in `backup.code`.
    """
    run(server.target, "create database commanded")
    target = server.target.on("commanded")
    try:
        run(target, "create table t (id int primary key, x text)")
        run(target, "insert into t select n, n from generate_series(1, 99) n")
        (folder / "not-a-folder").touch()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv(PASSWORD_ENV, "only-for-tests")
            result = safepoint(plan_file(folder, target, stores=TWO_STORES), "backup", "--json")
            (folder / "backup.json").write_text(result.stdout)
            (folder / "backup.code").write_text(str(result.exit_code))
            yield folder, target
    finally:
        run(server.target, "drop database commanded with (force)")


def copied(backed_up: tuple[Path, Target], folder: Path) -> PlanFile:
    """The plan file of a copy of that folder, whose stores all work."""
    copy = Path(shutil.copytree(backed_up[0], folder / "plan"))
    return plan_file(copy, backed_up[1])


def only_id(plan: PlanFile) -> str:
    """The id of the one snapshot that is here."""
    (snapshot,) = (plan.state / "snapshots").iterdir()
    return snapshot.name


def aged(
    plan: PlanFile, name: str, days: float, *, launch: str | None = None, away: bool = True, of: str | None = None
) -> str:
    """A copy of the snapshot that is some days older, here and in the store; proven by its own proof."""
    folder = plan.state / "snapshots"
    copy = Path(shutil.copytree(folder / next(p.name for p in sorted(folder.iterdir())), folder / name))
    taken_at = datetime.now(UTC) - timedelta(days=days)
    manifest = replace(read_manifest(copy), id=name, taken_at=taken_at, launch_id=launch)
    if of is not None:
        manifest = replace(manifest, source=replace(manifest.source, database=of))
    write_manifest(copy, manifest)
    proof = json.loads((copy / "proof.json").read_text())
    proof.pop("check", None)
    (copy / "proof.json").write_text(json.dumps({**proof, "snapshot_id": name, "seal": manifest.seal}, indent=1) + "\n")
    assert read_proof(copy) is not None
    if away:
        store_snapshot(copy, open_store(plan.stores[0], plan.folder))
    return name
