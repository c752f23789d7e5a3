"""Databases of another encoding than UTF-8 are proven and restored, and what is no text is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.errors import DatabaseError


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_proven_and_restored(servers: Servers, tmp_path: Path, encoding: str) -> None:
    """Its server may have no other: names, comments and settings of roles are known by their bytes."""
    server = servers(17)
    name = f"of_{encoding.lower()}"
    home, copy = server.target.on(name), server.target.on(f"{name}_copy")
    made_as = f"template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
    word = {"LATIN1": "für", "EUC_JP": "日本", "SQL_ASCII": "für"}[encoding]
    run(server.target, f"create database {name} {made_as}", "create role scribe")
    try:
        run(home, f"create table \"{word}\" as select '{word}'::text as a", f"comment on role scribe is '{word}'")
        run(home, f'alter table "{word}" owner to scribe', f"alter database {name} set app.word = '{word}'")
        run(home, f'create table other as select 1 as "{word}"')
        if encoding == "SQL_ASCII":
            run(home, r"insert into other (für) values (2)", r"create table raw as select E'\xff\xfe'::text as a")
        folder = snap(home, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert place(folder, server.target, copy.dbname).notes == ()
        run(server.target, f"drop database {copy.dbname}")
        assert place(folder, server.target, copy.dbname, only=(word,)).rows == 1
    finally:
        for target in (copy, home):
            run(server.target, f"drop database if exists {target.dbname}")
        run(server.target, "drop role scribe")


def test_a_definition_that_is_no_text_is_told_as_that(servers: Servers, tmp_path: Path) -> None:
    server = servers(17)
    home = server.target.on("of_any_bytes")
    made_as = "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
    run(server.target, f"create database of_any_bytes {made_as}")
    try:
        run(home, "create table t as select 1 as a", r"comment on table t is E'\xff'")
        with pytest.raises(DatabaseError) as caught:
            snap(home, server, tmp_path / "snapshots")
        assert "bytes that are no UTF-8" in str(caught.value.remedy)
    finally:
        run(server.target, "drop database of_any_bytes")


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 of Debian's packages is not installed")
def test_a_role_whose_name_is_in_another_encoding_is_made_for_the_proof(servers: Servers, tmp_path: Path) -> None:
    server = servers(15)
    home = server.target.on("of_zoe")
    run(server.target, "create database of_zoe template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'")
    try:
        run(home, 'create role "Zoë"', "create table t as select 'é'::text as a", 'alter table t owner to "Zoë"')
        folder = snap(home, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    finally:
        run(home, "drop table t", 'drop role "Zoë"')
        run(server.target, "drop database of_zoe")
