"""Options of user mappings, passwords among them: carried where the login sees them, told where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove, restored
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

MADE = """
    create extension postgres_fdw;
    create server far foreign data wrapper postgres_fdw options (host '127.0.0.1', port '9');
    create server "odd one" foreign data wrapper postgres_fdw;
    create user mapping for mapped_group server far options (user 'u', password 'top-secret');
    create user mapping for public server far options (user 'all');
    create user mapping for mapped_reader server "odd one" options (password 'my-own', user 'me');
    create user mapping for mapped_group server "odd one";
    create table t as select 1 as a;
    grant usage on foreign server "odd one" to mapped_reader;
"""
OPTIONS = """
    select srvname || ' ' || usename, (select array_agg(one order by one) from unnest(umoptions) one)
    from pg_user_mappings order by 1
"""


@pytest.fixture
def mapped(database: Target) -> Iterator[Target]:
    """A database with user mappings; `mapped_reader` may read all of its tables."""
    run(
        database,
        "create role mapped_group",
        "create role mapped_reader login password 'p'",
        "grant pg_read_all_data to mapped_reader",
        MADE,
    )
    yield database
    run(database, "drop owned by mapped_group, mapped_reader cascade", "drop role mapped_group, mapped_reader")


def test_a_superuser_s_snapshot_has_them_and_no_digest_tells_them(
    mapped: Target, server: Server, tmp_path: Path
) -> None:
    folder = snap(mapped, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    written = (folder / "manifest.json").read_text()
    assert "top-secret" not in written and "my-own" not in written
    with (
        restored(folder, scratch_parent=tmp_path / "scratch") as copy,
        connect(copy.target) as found,
        connect(mapped) as source,
    ):
        assert found.execute(OPTIONS).fetchall() == source.execute(OPTIONS).fetchall()
    before = read_manifest(folder).fingerprint
    assert len(before.structure["user mapping"]) == 4
    run(mapped, "alter user mapping for mapped_group server far options (set password 'another')")
    assert [(one.kind, one.name) for one in compare(before, take(mapped))] == [
        ("user mapping", "mapped_group on server far")
    ]
    run(mapped, 'drop user mapping for mapped_group server "odd one"')
    assert {one.name for one in compare(before, take(mapped))} == {
        "mapped_group on server far",
        'mapped_group on server "odd one"',
    }


def test_who_does_not_see_them_is_told_that_they_are_lost_and_what_to_do(
    mapped: Target, server: Server, tmp_path: Path, new_database: Callable[[Server], Target]
) -> None:
    folder = snap(mapped.login("mapped_reader", "p"), server, tmp_path / "snapshots")
    told = [note for note in read_manifest(folder).notes if "user mapping" in note]
    assert len(told) == 1 and "ALTER USER MAPPING" in told[0]
    lost = ('mapped_group on server "odd one"', "mapped_group on server far", "public on server far")
    assert all(name in told[0] for name in lost) and "mapped_reader on" not in told[0]
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == tuple(told)
    name = new_database(server).dbname
    run(mapped.on("postgres"), f"drop database {name}")
    assert tuple(told) == place(folder, mapped, name).notes
    # What is seen on one side only is no difference.
    assert compare(read_manifest(folder).fingerprint, take(mapped)) == ()


def test_a_database_whose_mappings_have_no_options_is_told_nothing(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw")
    run(database, "create user mapping for current_user server far")
    folder = snap(database, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
