"""A store is told to encrypt when a part of a snapshot is there in the clear already: that does not stay."""

from __future__ import annotations

import json
from pathlib import Path

import pyrage
import pytest

from safepoint.config import Store
from safepoint.errors import Interrupted
from safepoint.progress import Progress
from safepoint.stores import open_store

SECRET = b"the-salary-of-the-director"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "vaulted"
    (folder / "archive").mkdir(parents=True)
    for number in range(3):
        (folder / "archive" / f"{number}.dat").write_bytes(SECRET * (number + 1))
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
    return folder


@pytest.fixture
def sealed() -> tuple[str, ...]:
    return (str(pyrage.x25519.Identity.generate().to_public()),)


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_what_an_upload_in_the_clear_that_was_cut_short_left_goes(
    snapshot: Path, sealed: tuple[str, ...], tmp_path: Path
) -> None:
    away = tmp_path / "away"
    sent: list[float] = []

    def report(progress: Progress) -> None:
        sent.append(progress.done)

    with pytest.raises(Interrupted):
        open_store(Store(name="away", url=str(away)), tmp_path).upload(
            snapshot, "vaulted", report, lambda: len(sent) > 1
        )
    assert SECRET in everything(away)
    store = open_store(Store(name="away", url=str(away), encrypt_to=sealed), tmp_path)
    store.upload(snapshot, "vaulted")
    assert store.ids() == ["vaulted"]
    assert SECRET not in everything(away)


def test_one_that_is_there_in_the_clear_gets_nothing_more_in_the_clear(
    snapshot: Path, sealed: tuple[str, ...], tmp_path: Path
) -> None:
    away = tmp_path / "away"
    open_store(Store(name="away", url=str(away)), tmp_path).upload(snapshot, "vaulted")
    (away / "vaulted" / "archive" / "1.dat").write_bytes(b"damaged")
    store = open_store(Store(name="away", url=str(away), encrypt_to=sealed), tmp_path)
    store.upload(snapshot, "vaulted")
    assert store.label("vaulted") is not None
    assert SECRET not in everything(away)
