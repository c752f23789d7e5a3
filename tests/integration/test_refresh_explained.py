"""Why a materialised view could not be filled in a copy is said in any encoding of its database."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers

from safepoint.backup.proof import prove


@pytest.mark.parametrize("encoding", ["EUC_JP", "UTF8"])
def test_a_view_whose_name_is_not_ascii_says_why_it_is_without_data(
    servers: Servers, tmp_path: Path, encoding: str
) -> None:
    server = servers(17)
    name = f"views_{encoding.lower()}"
    home = server.target.on(name)
    run(server.target, f"create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'")
    try:
        run(home, "create table t as select '1'::text as a", 'create materialized view "日本" as select a::int from t')
        run(home, "insert into t values ('日')")
        notes = prove(snap(home, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").notes
        assert len(notes) == 1 and '"日本" is without data' in notes[0]
        assert 'invalid input syntax for type integer: "日"' in notes[0]
    finally:
        run(server.target, f"drop database {name}")
