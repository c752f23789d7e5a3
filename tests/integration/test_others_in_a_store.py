"""A store's folder in which somebody else keeps things, too, called as snapshots are: nothing of theirs goes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyrage
import pytest
from commanded import aged, answer, copied, safepoint

from safepoint.config import PlanFile, Store
from safepoint.postgres.target import Target
from safepoint.stores import open_store

OURS, THEIRS = "shop-20260228T180000Z", "nightly-20260228T030000Z"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    (folder / "archive").mkdir(parents=True)
    (folder / "archive" / "1.dat").write_bytes(b"1")
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
    return folder


def test_what_a_script_of_somebody_keeps_there_is_no_upload_that_was_given_up(snapshot: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    for name in (f"{OURS}/archive/1.dat.age", f"{OURS}/globals.sql", f"{THEIRS}/globals.sql", f"{THEIRS}/shop.dump"):
        path = away / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 49 * 3600,) * 2)
    store = open_store(Store(name="away", url=str(away)), tmp_path)
    store.upload(snapshot, "shop-20260303T180000Z")
    assert [one.snapshot_id for one in store.tidy()] == [OURS]
    assert (away / THEIRS / "shop.dump").exists() and (away / THEIRS / "globals.sql").exists()


def test_an_encrypted_upload_makes_no_room_among_them(snapshot: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (away / THEIRS).mkdir(parents=True)
    (away / THEIRS / "shop.dump").write_bytes(b"x")
    key = str(pyrage.x25519.Identity.generate().to_public())
    open_store(Store(name="away", url=str(away), encrypt_to=(key,)), tmp_path).upload(snapshot, THEIRS)
    assert (away / THEIRS / "shop.dump").exists()


@pytest.mark.parametrize("manifest", ['[{"Config": "x.json", "Layers": []}]', '{"row": 1}\n{"row": 2}\n'])
def test_what_has_another_manifest_stays(backed_up: tuple[Path, Target], tmp_path: Path, manifest: str) -> None:
    """`docker save`, for one, writes a list of that name."""
    plan: PlanFile = copied(backed_up, tmp_path)
    old = aged(plan, "old", 50)
    (plan.state / "snapshots" / old / "manifest.json").write_text(manifest)
    answer(safepoint(plan, "prune", "--json"))
    assert (plan.state / "snapshots" / old).exists()
