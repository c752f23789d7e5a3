"""A store that somebody else writes to: what comes from there runs nothing here, and is what it is called."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from awkward import snap
from postgres_servers import drop_database, fresh_database

from safepoint.backup.manifest import hash_file, read_manifest, write_manifest
from safepoint.backup.proof import prove
from safepoint.backup.restoring import restored
from safepoint.backup.shelf import fetch_snapshot, list_there, store_snapshot
from safepoint.config import Store
from safepoint.errors import ProofFailed
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.stores import open_store


@pytest.fixture
def shop(server: Server) -> Iterator[Target]:
    target = fresh_database(server)
    with connect(target) as connection:
        connection.execute("create table purchase as select n from generate_series(1, 3) n")
    yield target
    drop_database(target)


def rewritten(folder: Path, name: str, text: str) -> None:
    """A file of a snapshot with this before what stood there, in a manifest that fits: anybody can write one."""
    (folder / name).write_text(text + (folder / name).read_text())
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, files={**manifest.files, name: hash_file(folder / name)}))


@pytest.mark.parametrize("name", ["globals.sql", "database.sql"])
def test_a_script_from_a_store_runs_no_program_here(shop: Target, server: Server, tmp_path: Path, name: str) -> None:
    snapshot = snap(shop, server, tmp_path / "snapshots")
    rewritten(snapshot, name, f"\\! touch {tmp_path}/ran\n\\o {tmp_path}/ran\n\\set QUIET 0\n")
    with restored(snapshot, scratch_parent=tmp_path / "scratch") as copy, connect(copy.target) as connection:
        assert connection.execute("select count(*) from purchase").fetchone() == (3,)
        assert [note for note in copy.notes if name in note] == []
    assert not (tmp_path / "ran").exists()
    assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows == 3


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "encrypted"])
def test_a_store_that_gives_an_older_snapshot_for_another_is_found_out(
    shop: Target, server: Server, tmp_path: Path, sealed: bool
) -> None:
    """Each file of it fits its manifest, and the manifest its seal."""
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{identity}\n")
    to = (str(identity.to_public()),) if sealed else ()
    settings = Store(name="away", url=str(tmp_path / "away"), encrypt_to=to)
    store = open_store(settings, tmp_path, identity=tmp_path / "identity" if sealed else None)
    for one in ("older", "newer"):
        folder = snap(shop, server, tmp_path / "snapshots", one)
        prove(folder, scratch_parent=tmp_path / "scratch")
        store_snapshot(folder, store)
    label = (tmp_path / "away/newer/sealed.json").read_bytes() if sealed else b""
    shutil.rmtree(tmp_path / "away/newer")
    shutil.copytree(tmp_path / "away/older", tmp_path / "away/newer")
    if sealed:
        (tmp_path / "away/newer/sealed.json").write_bytes(label)
    else:
        faults = {one.id: str(one.fault) for one in list_there(store)}
        assert faults["older"] == "None" and "is another snapshot" in faults["newer"]
    with pytest.raises(ProofFailed, match="is another snapshot"):
        fetch_snapshot("newer", store, tmp_path / "fetched")
    assert not any((tmp_path / "fetched").iterdir())
    assert fetch_snapshot("older", store, tmp_path / "fetched").id == "older"
