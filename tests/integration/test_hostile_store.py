"""A store that somebody else writes to: what comes from there runs nothing here, and is what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from awkward import snap
from postgres_servers import drop_database, fresh_database

from safepoint.backup.manifest import hash_file, read_manifest, write_manifest
from safepoint.backup.proof import prove
from safepoint.backup.restoring import restored
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


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
