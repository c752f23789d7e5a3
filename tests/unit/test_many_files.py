"""A snapshot has a file for each table and each large object: what is kept of one must not grow with the others."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import pytest

from safepoint.backup.manifest import Manifest, hash_files, verify_files
from safepoint.stores.files import Sent
from safepoint.stores.sending import Sending


def test_files_that_wait_to_be_hashed_fill_no_memory(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.dat").write_bytes(b"x")
    tracemalloc.start()
    try:
        found = hash_files(tmp_path, jobs=1)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 10_000
    assert peak - kept < 12_000_000, "each file that waited took 2 kB"


def test_what_an_upload_notes_is_written_once(tmp_path: Path) -> None:
    sending = Sending(tmp_path, "offsite", ["age1"], b"manifest")
    for number in range(5_000):
        sending.note(f"archive/{number}.dat.age", Sent(number, f"{number:064}"))
    (notes,) = tmp_path.iterdir()
    size = notes.stat().st_size
    sending.note("globals.sql.age", Sent(1, "0" * 64))
    assert notes.stat().st_size - size < 200
    assert Sending(tmp_path, "offsite", ["age1"], b"manifest").known("archive/4999.dat.age") == Sent(
        4999, f"{4999:064}"
    )
    assert not Sending(tmp_path, "offsite", ["age1"], b"another").has_begun
    assert not Sending(tmp_path, "offsite", ["age2"], b"manifest").has_begun
    notes.write_bytes(notes.read_bytes()[:-10])  # a kill tore the last line
    again = Sending(tmp_path, "offsite", ["age1"], b"manifest")
    assert again.known("globals.sql.age") is None
    again.note("database.sql.age", Sent(2, "1" * 64))
    again = Sending(tmp_path, "offsite", ["age1"], b"manifest")
    assert again.known("database.sql.age") and again.known("archive/0.dat.age")
    again.forget()
    assert not list(tmp_path.iterdir())


def test_verifying_files_does_not_count_all_of_them_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def counting(manifest: Manifest) -> int:
        counted.append(len(manifest.files))
        return 1

    folder = Path(shutil.copytree(Path(__file__).parent.parent / "data" / "shop-format-4", tmp_path / "copy"))
    monkeypatch.setattr(Manifest, "total_bytes", property(counting))
    assert len(verify_files(folder).files) > 5
    assert len(counted) <= 3
