"""A trusted extension belongs to whoever made it, also in what is restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import drop_database, fresh_database

from safepoint.backup.extensions import NAME
from safepoint.backup.manifest import read_manifest
from safepoint.backup.restoring import restored
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

OWNERS = "select extname::text, pg_get_userbyid(extowner)::text from pg_extension order by 1"


@pytest.fixture
def shop(server: Server) -> Iterator[Target]:
    target = fresh_database(server)
    run(
        target,
        'create role "the shop"',
        f'alter database {target.dbname} owner to "the shop"',
        "create extension btree_gist",
        "create schema apart",
        'grant all on schema apart to "the shop"',
        'set role "the shop"; create extension hstore; create extension citext schema apart',
        'create table item (id int primary key, size hstore); alter table item owner to "the shop"',
    )
    yield target
    drop_database(target)
    run(target.on("postgres"), 'drop role "the shop"')


def test_an_extension_that_the_application_made_is_its_own_in_the_copy(
    shop: Target, server: Server, tmp_path: Path
) -> None:
    snapshot = snap(shop, server, tmp_path / "snapshots")
    assert NAME in read_manifest(snapshot).files
    with restored(snapshot, scratch_parent=tmp_path / "scratch") as copy, connect(copy.target) as connection:
        owners = dict(connection.execute(OWNERS).fetchall())
        assert owners["hstore"] == "the shop" and owners["btree_gist"] != "the shop" and "citext" in owners
        # As a migration of its next release does.
        connection.execute('set role "the shop"; alter table item drop column size; drop extension hstore')
