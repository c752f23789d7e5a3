"""Where copies are made and thrown away: one suite for servers of our own and for one that the plan file names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.proof import prove, read_proof
from safepoint.backup.scratch import OWN, Scratch
from safepoint.errors import Interrupted, ProofFailed


@pytest.fixture(params=["own", "named"])
def place(request: pytest.FixtureRequest) -> Scratch:
    return OWN if request.param == "own" else request.getfixturevalue("named")


def test_a_database_with_everything_odd_in_it_is_proven_and_nothing_is_left(
    place: Scratch, odd: Path, tmp_path: Path
) -> None:
    proof = prove(odd, scratch_parent=tmp_path / "scratch", scratch=place)
    assert proof.tables == 8 and read_proof(odd) == proof
    assert list((tmp_path / "scratch").iterdir()) == []
    # What the place cannot prove is said.
    assert len(proof.notes) == (0 if place is OWN else 1) and all("roles' attributes" in one for one in proof.notes)


def test_a_copy_that_differs_is_told_by_name_and_nothing_is_left(place: Scratch, small: Path, tmp_path: Path) -> None:
    manifest = read_manifest(small)
    tables = {**manifest.fingerprint.tables, "public.t": TablePrint(500, "0" * 32)}
    write_manifest(small, replace(manifest, fingerprint=replace(manifest.fingerprint, tables=tables)))
    with pytest.raises(ProofFailed, match=r"table public\.t: expected 500 rows, content 0000"):
        prove(small, scratch_parent=tmp_path / "scratch", scratch=place)
    assert read_proof(small) is None and list((tmp_path / "scratch").iterdir()) == []


def test_an_order_to_stop_ends_it_and_nothing_is_left(place: Scratch, small: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def cancelled() -> bool:
        return any("restore" in one for one in seen)

    with pytest.raises(Interrupted):
        prove(
            small,
            scratch_parent=tmp_path / "scratch",
            scratch=place,
            report=lambda progress: seen.append(progress.what),
            cancelled=cancelled,
        )
    assert list((tmp_path / "scratch").iterdir()) == []
