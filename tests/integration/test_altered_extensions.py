"""What somebody made of an extension is in no dump: what a copy lacks is told, and what helps where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.errors import Unrestorable
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ALTERED = {
    "function public.addme(": "create function addme(int) returns int language sql as 'select 42'; "
    "alter extension hstore add function addme(int)",
    "table public.added of": "create table added (a int); alter extension hstore add table added",
    "function public.unaccent(": "alter function unaccent(text) immutable",
    "function public.akeys(": "create or replace function akeys(hstore) returns text[] language sql immutable strict "
    "as 'select array[''other'']'",
}
"""What is to be told, and what somebody did."""


def test_what_was_added_to_an_extension_or_altered_of_it_is_told(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, "create extension hstore", "create extension unaccent")
    plain = snap(database, server, tmp_path / "snapshots", "plain")
    assert prove(plain, scratch_parent=tmp_path / "scratch").notes == ()
    run(database, *ALTERED.values())
    folder = snap(database, server, tmp_path / "snapshots", "altered")
    (told,) = prove(folder, scratch_parent=tmp_path / "scratch").notes
    assert [name for name in ALTERED if name not in told] == []
    assert told.count(" of extension ") == len(ALTERED)
    copy = database.on(f"{database.dbname}_copy")
    try:
        assert place(folder, server.target, copy.dbname).notes == (told,)
    finally:
        run(database, f"drop database if exists {copy.dbname} with (force)")


def test_an_extension_that_comes_back_in_another_version_is_told(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, "create extension pg_trgm version '1.5'", "create extension hstore")
    folder = snap(database, server, tmp_path / "snapshots")
    (told,) = prove(folder, scratch_parent=tmp_path / "scratch").notes
    assert "pg_trgm (1.5, and 1.6 in the copy)" in told
    assert "hstore" not in told


@pytest.mark.parametrize(
    "calls",
    [
        "create index on names (unaccent(name))",
        "alter table names add plain text generated always as (public.unaccent(name)) stored",
    ],
)
def test_a_function_of_an_extension_that_was_made_immutable_for_an_index_is_told_with_what_helps(
    database: Target, server: Server, tmp_path: Path, calls: str
) -> None:
    run(database, "create extension unaccent", "create table names (name text)")
    run(database, "alter function unaccent(text) immutable", calls)
    folder = snap(database, server, tmp_path / "snapshots")
    with pytest.raises(Unrestorable) as failure:
        prove(folder, scratch_parent=tmp_path / "scratch")
    assert "a function of your own" in str(failure.value.remedy)
