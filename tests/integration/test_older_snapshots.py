"""Snapshots that older versions of Safepoint took: proven and restored as those of today."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan_file import PASSWORD_ENV, plan_file

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove, read_proof
from safepoint.errors import ProofFailed
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Its folder, where a proof may be written."""
    return Path(shutil.copytree(DATA / "shop-format-1", tmp_path / "shop-format-1"))


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """One of the second format, likewise."""
    return Path(shutil.copytree(DATA / "shop-format-2", tmp_path / "shop-format-2"))


@pytest.fixture
def fourth(tmp_path: Path) -> Path:
    """One of the fourth format, likewise."""
    return Path(shutil.copytree(DATA / "shop-format-4", tmp_path / "shop-format-4"))


@pytest.fixture
def again(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """Where it is restored to."""
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")
    target = server.target.on("shop_again")
    yield target
    with connect(server.target) as connection:
        connection.execute("drop database if exists shop_again with (force)")
        connection.execute("drop role if exists shop_owner")


def test_one_of_the_first_format_is_proven_and_restored_whole(older: Path, again: Target, tmp_path: Path) -> None:
    manifest = read_manifest(older)
    assert manifest.fingerprint.format == 1
    proof = prove(older, scratch_parent=tmp_path / "scratch")
    assert read_proof(older) == proof and proof.rows == manifest.fingerprint.rows > 700
    placed = restore_into(plan_file(tmp_path, again), older, "shop_again")
    assert (placed.rows, placed.tables) == (proof.rows, proof.tables)
    assert compare(manifest.fingerprint, take(again, version=1)) == ()
    with connect(again) as connection:
        connection.execute("update line set n = n + 0.01 where account_id = 7")
    assert [one.name for one in compare(manifest.fingerprint, take(again, version=1))] == ["public.line"]


def test_one_of_the_second_format_is_proven_and_restored_by_what_it_said_then(
    second: Path, again: Target, tmp_path: Path
) -> None:
    was = read_manifest(second).fingerprint
    assert was.format == 2
    proof = prove(second, scratch_parent=tmp_path / "scratch")
    assert read_proof(second) == proof and proof.rows == was.rows == 500
    placed = restore_into(plan_file(tmp_path, again), second, "shop_again")
    assert (placed.rows, placed.tables) == (proof.rows, proof.tables)
    now = take(again, version=2)
    assert compare(was, now) == ()
    assert {kind: sorted(found) for kind, found in now.structure.items()} == {
        kind: sorted(found) for kind, found in was.structure.items()
    }
    with connect(again) as connection:
        connection.execute("alter policy few on account using (name in ('a', 'c'))")
    assert [one.name for one in compare(was, take(again, version=2))] == ["few on public.account"]


def test_one_of_the_fourth_format_is_proven_and_restored_by_what_it_said_then(
    fourth: Path, again: Target, tmp_path: Path
) -> None:
    was = read_manifest(fourth).fingerprint
    assert was.format == 4
    proof = prove(fourth, scratch_parent=tmp_path / "scratch")
    assert read_proof(fourth) == proof and proof.rows == was.rows == 500
    placed = restore_into(plan_file(tmp_path, again), fourth, "shop_again")
    assert (placed.rows, placed.tables) == (proof.rows, proof.tables)
    now = take(again, version=4)
    assert compare(was, now) == () and was.digest == now.digest
    assert {kind: [*found] for kind, found in now.structure.items()} == {
        kind: [*found] for kind, found in was.structure.items()
    }
    with connect(again) as connection:
        connection.execute("alter schema public owner to shop_owner")  # the fifth sees it
        assert compare(was, take(again, version=4)) == ()
        connection.execute("alter statistics on_two set statistics 98")
    assert [one.name for one in compare(was, take(again, version=4))] == ["public.on_two"]


def test_one_byte_of_it_that_changed_is_seen_before_anything_is_restored(older: Path, tmp_path: Path) -> None:
    archive = next((older / "archive").glob("2589.dat*"))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ProofFailed, match=r"2589\.dat"):
        prove(older, scratch_parent=tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
