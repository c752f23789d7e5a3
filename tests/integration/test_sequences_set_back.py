"""A sequence that is set back while a snapshot is taken: its rows are of before, and its numbers of afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from awkward import run, snap

from safepoint.backup import snapshot
from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


@pytest.mark.parametrize("change", ["alter sequence bill_id_seq restart with 7", "select setval('bill_id_seq', 90)"])
def test_one_that_was_set_back_is_told_and_one_that_went_on_is_not(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """As a job does it that empties a table and begins its numbers again."""
    run(database, "create table bill (id serial)", "insert into bill select from generate_series(1, 50)")
    run_globals = snapshot.run_globals

    def then_changed(*words: Any) -> None:
        run_globals(*words)
        run(database, change)

    monkeypatch.setattr(snapshot, "run_globals", then_changed)
    folder = snap(database, server, tmp_path / "snapshots")
    assert read_manifest(folder).fingerprint.tables["public.bill"].rows == 50
    told = [note for note in prove(folder, scratch_parent=tmp_path / "scratch").notes if "public.bill_id_seq" in note]
    assert len(told) == ("restart" in change)


def test_one_that_is_dropped_when_all_was_read_spoils_no_snapshot(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the dump's lock drops the table as soon as that is done; its number is looked at once more."""
    run(database, "create table staging (id serial)", "insert into staging select from generate_series(1, 50)")
    read_all = snapshot._dump_and_fingerprint

    def then_dropped(*words: Any) -> Any:
        found = read_all(*words)
        run(database, "drop table staging")
        return found

    monkeypatch.setattr(snapshot, "_dump_and_fingerprint", then_dropped)
    folder = snap(database, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 50
