"""Proofs: a faithful snapshot is proven, whatever is in it; a damaged or unfaithful one never is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from awkward import AWKWARD, DATABASE, OWNERS, run, snap

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.proof import prove, read_proof
from safepoint.backup.shelf import fetch_snapshot, list_snapshots, remove_here, retention, store_snapshot
from safepoint.config import Store
from safepoint.errors import Interrupted, ProofFailed, Refused
from safepoint.postgres.binaries import installations
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.stores import open_store

MAJORS = sorted({found.major for found in installations()} & {15, 17, 18})


@pytest.fixture(scope="module")
def good(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small snapshot of PostgreSQL 17; tests work on copies of it."""
    server = servers(17)
    with connect(server.target) as connection:
        connection.execute("create database good_one")
    target = server.target.on("good_one")
    run(target, "create table t as select n, md5(n::text) x from generate_series(1, 500) n", "create sequence q")
    run(target, "select lo_from_bytea(0, 'abc')", "grant select on t to pg_monitor")
    yield snap(target, server, tmp_path_factory.mktemp("good"), "good-20260101T000000Z")
    with connect(server.target) as connection:
        connection.execute("drop database good_one with (force)")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "snapshots" / good.name))


@pytest.mark.parametrize("major", MAJORS, ids=lambda major: f"pg{major}")
def test_a_database_with_everything_odd_in_it_is_proven(
    servers: Callable[[int], Server], new_database: Callable[[Server], Target], tmp_path: Path, major: int
) -> None:
    server = servers(major)
    target = new_database(server)
    roles = ("awkward_owner", "awkward_group", "awkward_app")
    try:
        run(target, AWKWARD, OWNERS, *(statement.format(db=target.dbname) for statement in DATABASE))
        folder = snap(target, server, tmp_path / "snapshots")
        proof = prove(folder, scratch_parent=tmp_path / "scratch")
    finally:
        run(target.on("postgres"), f"drop database {target.dbname} with (force)")
        for role in roles:
            run(target.on("postgres"), f"drop owned by {role}", f"drop role {role}")
    assert proof.tables == 8
    assert proof.notes == ()
    assert read_proof(folder) == proof
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("name", ["manifest.json", "proof.json"])
def test_a_line_feed_that_became_a_carriage_return_is_seen(copy: Path, tmp_path: Path, name: str) -> None:
    prove(copy, scratch_parent=tmp_path / "scratch")
    text = (copy / name).read_bytes()
    (copy / name).write_bytes(text.replace(b"\n", b"\r", 1))
    if name == "proof.json":
        assert read_proof(copy) is None
    else:
        with pytest.raises(ProofFailed):
            read_manifest(copy)


def test_a_proof_holds_for_its_own_manifest_only(copy: Path, tmp_path: Path) -> None:
    prove(copy, scratch_parent=tmp_path / "scratch")
    write_manifest(copy, replace(read_manifest(copy), launch_id="another"))
    assert read_proof(copy) is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def archive_file(folder: Path) -> Path:
    return max((folder / "archive").iterdir(), key=lambda path: path.stat().st_size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda folder: flip(archive_file(folder)),
    "truncated": lambda folder: archive_file(folder).write_bytes(archive_file(folder).read_bytes()[:-1]),
    "a file of zero bytes": lambda folder: archive_file(folder).write_bytes(b""),
    "missing file": lambda folder: archive_file(folder).unlink(),
    "empty globals": lambda folder: (folder / "globals.sql").write_text(""),
    "manifest flipped": lambda folder: flip(folder / "manifest.json"),
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "manifest empty": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest of a newer version": lambda folder: (folder / "manifest.json").write_text(json.dumps({"format": 99})),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.replace(" ", "-"))
def test_a_damaged_snapshot_is_refused_before_anything_is_restored(copy: Path, tmp_path: Path, damage: str) -> None:
    DAMAGES[damage](copy)
    with pytest.raises(ProofFailed) as caught:
        prove(copy, scratch_parent=tmp_path / "scratch")
    assert caught.value.remedy
    assert not (tmp_path / "scratch").exists()
    assert not (copy / "proof.json").exists()


def test_a_copy_that_differs_is_told_by_name_and_an_old_proof_falls(copy: Path, tmp_path: Path) -> None:
    prove(copy, scratch_parent=tmp_path / "scratch")
    manifest = read_manifest(copy)
    printed = manifest.fingerprint
    other = replace(
        printed,
        tables={**printed.tables, "public.t": TablePrint(500, "0" * 32), "public.lost": TablePrint(3, "1" * 32)},
        extensions={**printed.extensions, "postgis": "3.4"},
        ownership={name: text for name, text in printed.ownership.items() if name != "relation public.t"},
        large_objects=TablePrint(2, printed.large_objects.content),
    )
    write_manifest(copy, replace(manifest, fingerprint=other))
    (copy / "proof.json").write_text(json.dumps({"seal": "old"}))
    with pytest.raises(ProofFailed) as caught:
        prove(copy, scratch_parent=tmp_path / "scratch")
    for words in (
        "table public.t: expected 500 rows, content 0000",
        "table public.lost is missing",
        "extension postgis is missing",
        "owner and grants of relation public.t is there and should not be",
        "large objects (all)",
    ):
        assert words in caught.value.message
    assert not (copy / "proof.json").exists()


def test_an_order_to_stop_ends_a_proof(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        prove(copy, scratch_parent=tmp_path / "scratch", cancelled=lambda: True)
    assert not (copy / "proof.json").exists()


def test_an_unproven_snapshot_is_not_stored(copy: Path, tmp_path: Path) -> None:
    store = open_store(Store(name="away", url=str(tmp_path / "away")), tmp_path)
    with pytest.raises(Refused, match="not proven"):
        store_snapshot(copy, store)
    assert store.ids() == []


def test_a_proven_snapshot_goes_to_a_store_and_comes_back_proven(copy: Path, tmp_path: Path) -> None:
    store = open_store(Store(name="away", url=str(tmp_path / "away")), tmp_path)
    prove(copy, scratch_parent=tmp_path / "scratch")
    stored = store_snapshot(copy, store)
    assert stored.bytes > read_manifest(copy).total_bytes
    assert store_snapshot(copy, store).snapshot_id == stored.snapshot_id
    prove(copy, scratch_parent=tmp_path / "scratch")  # another proof of the same snapshot: of another time, and as good
    store_snapshot(copy, store)
    assert (tmp_path / "away" / copy.name / "proof.json").read_bytes() == (copy / "proof.json").read_bytes()

    (listed,) = list_snapshots(copy.parent, {"away": store})
    assert (listed.id, listed.proven, listed.where, listed.launch_id) == (copy.name, True, ("here", "away"), "launch-1")

    remove_here(copy.parent, copy.name)
    (listed,) = list_snapshots(copy.parent, {"away": store})
    assert (listed.proven, listed.where) == (True, ("away",))
    fetch_snapshot(copy.name, store, copy.parent)
    assert read_proof(copy) is not None


def test_damaged_and_partial_snapshots_are_listed_as_what_they_are(copy: Path) -> None:
    flip(copy / "manifest.json")
    (copy.parent / "other.partial").mkdir()
    (listed,) = list_snapshots(copy.parent)
    assert listed.fault is not None and not listed.proven
    assert listed.taken == datetime(2026, 1, 1, tzinfo=UTC)
    decided = retention([listed], datetime(2030, 1, 1, tzinfo=UTC), timedelta(days=30))
    assert decided.drop == {}


def test_what_is_no_snapshot_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(Refused):
        remove_here(tmp_path, "photos")
    assert (tmp_path / "photos").is_dir()
