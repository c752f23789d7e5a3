"""Roles at a restore: what is missing is made as it was, and what is there stays as it is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run
from postgres_servers import FOLDER
from snapped_shop import ask

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_roles_that_are_missing_are_made_and_others_stay_as_they_are(
    servers: Callable[[int], Server], snapped: tuple[Target, Path]
) -> None:
    other = servers(18).target
    run(other, "create role shop_reader nologin")
    try:
        placed = place(snapped[1], other, "shop_copy")
        assert placed.roles_made == ("shop_owner",)
        assert any("shop_reader" in note for note in placed.notes)
        assert ask(other, "select rolcanlogin from pg_roles where rolname = 'shop_reader'") == [(False,)]
    finally:
        run(other, "drop database if exists shop_copy with (force)", "drop role shop_reader", "drop role shop_owner")


def test_a_login_that_has_access_as_a_member_only_is_made_with_its_membership(
    servers: Callable[[int], Server], server: Server, tmp_path: Path
) -> None:
    run(server.target, "create role till_rw", "create role till_app login in role till_rw", "create database till")
    other = servers(18).target
    try:
        run(server.target.on("till"), "create table t as select 1 as x", "grant select on t to till_rw")
        here = Here("here", tmp_path)
        programs = server.installation
        take_snapshot(
            server.target.on("till"), here, installation=programs, folder=tmp_path, snapshot_id="s", launch_id=None
        )
        assert place(tmp_path / "s", other, "till").roles_made == ("till_app", "till_rw")
        assert ask(other, "select pg_has_role('till_app', 'till_rw', 'member')") == [(True,)]
        assert ask(other, "select rolcanlogin from pg_roles where rolname = 'till_app'") == [(True,)]
    finally:
        for target in (server.target, other):
            run(target, "drop database if exists till with (force)", "drop role if exists till_rw, till_app")


@pytest.fixture(scope="module")
def bosses(server: Server) -> Iterator[Server]:
    """A server whose first superuser is not called `postgres`."""
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    settings = {"fsync": "off", "shared_buffers": "32MB"}
    try:
        with Server.create(
            parent / "pg", server.installation, superuser="boss", password="only-there", settings=settings
        ) as other:
            yield other
    finally:
        shutil.rmtree(parent, ignore_errors=True)


SUPERUSERS = "select rolname::text, rolcanlogin from pg_roles where rolsuper order by 1"


def test_what_the_first_superuser_owned_comes_to_a_server_whose_own_has_another_name(
    snapped: tuple[Target, Path], bosses: Server
) -> None:
    """It is made as the owner it was, and lets nobody in."""
    placed = place(snapped[1], bosses.target, "shop_copy")
    assert placed.roles_made == ("postgres", "shop_owner", "shop_reader")
    assert any("made without a login" in note for note in placed.notes)
    copy = bosses.target.on("shop_copy")
    (login,) = compare(read_manifest(snapped[1]).fingerprint, take(copy))
    assert (login.kind, login.name) == ("role", "postgres")
    assert ask(copy, SUPERUSERS) == [("boss", True), ("postgres", False)]


def test_a_first_superuser_who_owns_nothing_is_not_made(bosses: Server, server: Server, tmp_path: Path) -> None:
    run(bosses.target, "create role clerk", "create database theirs owner clerk")
    run(bosses.target.on("theirs"), "create table t as select 1 as x", "alter table t owner to clerk")
    take_snapshot(
        bosses.target.on("theirs"),
        Here("here", tmp_path),
        installation=server.installation,
        folder=tmp_path,
        snapshot_id="s",
        launch_id=None,
    )
    before = ask(server.target, SUPERUSERS)
    try:
        placed = place(tmp_path / "s", server.target, "theirs")
        assert placed.roles_made == ("clerk",) and ask(server.target, SUPERUSERS) == before
    finally:
        run(server.target, "drop database if exists theirs with (force)", "drop role if exists clerk")
