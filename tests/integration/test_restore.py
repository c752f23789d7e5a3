"""Restoring on the user's own server: equal or not at all, and nothing that was there is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import run
from postgres_servers import has_postgres
from snapped_shop import ask, names

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.config import PlanFile
from safepoint.errors import ProofFailed, Refused
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_a_new_database_equals_the_snapshot_with_its_settings_grants_and_comment(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    target, folder = snapped
    told = []
    placed = restore_into(snapped_plan, folder, "shop_copy", report=told.append)
    assert (placed.database, placed.rows, placed.tables, placed.notes) == ("shop_copy", 952, 5, ())
    assert compare(read_manifest(folder).fingerprint, take(target.on("shop_copy"))) == ()
    ((comment, limit),) = ask(
        target,
        "select shobj_description(oid, 'pg_database'), datconnlimit from pg_database where datname = 'shop_copy'",
    )
    assert str(comment).startswith("made by Safepoint: restored from shop-1") and str(comment).endswith("it's the shop")
    assert limit == 50
    assert {progress.what for progress in told} >= {"verify files", "restore", "fingerprint"}
    json.dumps(placed.as_json())


def test_what_is_there_already_is_not_touched(snapped: tuple[Target, Path], snapped_plan: PlanFile) -> None:
    target, folder = snapped
    run(target.on("postgres"), "create database shop_other")
    with pytest.raises(Refused, match="already"):
        restore_into(snapped_plan, folder, "shop_other")
    with pytest.raises(Refused, match="already"):
        restore_into(snapped_plan, folder, "shop")
    tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    assert ask(target.on("shop_other"), tables) == [(0,)]


def test_a_damaged_snapshot_is_refused_before_the_server_is_asked(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(snapped[1], tmp_path / "copy"))
    (copy / "globals.sql").write_text("CREATE ROLE intruder SUPERUSER;")
    before = names(snapped[0])
    with pytest.raises(ProofFailed, match=r"globals\.sql"):
        restore_into(snapped_plan, copy, "shop_copy")
    assert names(snapped[0]) == before
    assert ask(snapped[0], "select from pg_roles where rolname = 'intruder'") == []


def test_an_older_server_is_refused(servers: Callable[[int], Server], snapped: tuple[Target, Path]) -> None:
    if not has_postgres(15):
        pytest.skip("this machine has no PostgreSQL 15")
    with pytest.raises(Refused, match="older"):
        place(snapped[1], servers(15).target, "shop_copy")
