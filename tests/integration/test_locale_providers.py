"""Whose rules texts are sorted by is the same after a restore, whatever a new database of that server would have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from awkward import run, snap
from postgres_servers import FOLDER, Servers, has_postgres

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.backup.restoring import create_database, locales
from safepoint.postgres import servers as made
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target
from safepoint.wayback.twin import level
from safepoint.wayback.twin.pair import Pair

PROVIDER = "select datlocprovider::text from pg_database where datname = %s"


@pytest.fixture(scope="module")
def builtin() -> Iterator[Server]:
    """A server whose databases are of the provider `builtin` where nothing else is said."""
    argv = made.initdb_argv

    def chosen(*words: Any, **more: Any) -> list[str]:
        return [*argv(*words, **more), "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]

    with tempfile.TemporaryDirectory(prefix=FOLDER) as name:
        Path(name).chmod(0o711)  # the server's user is another one when we are root
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(made, "initdb_argv", chosen)
            server = Server.create(Path(name) / "pg", installation(17), password="only-for-tests", purpose=SCRATCH)
        try:
            yield server.start()
        finally:
            server.remove()


def provider(target: Target, name: str) -> str:
    with connect(target) as connection:
        return str(connection.execute(PROVIDER, [name]).fetchall()[0][0])


@pytest.fixture
def words(database: Target, server: Server, tmp_path: Path) -> Path:
    """A snapshot of a database of the system's library."""
    run(database, "create table t as select 'a' as a")
    assert provider(database, database.dbname) == "c"
    return snap(database, server, tmp_path / "snapshots")


def test_a_database_of_the_system_s_library_stays_so_on_a_server_of_another_provider(
    words: Path, builtin: Server
) -> None:
    placed = place(words, builtin.target, "again")
    assert placed.notes == () and provider(builtin.target, "again") == "c"


def test_a_level_twin_is_of_the_live_database_s_provider(builtin: Server) -> None:
    run(builtin.target, "create database live template template0 locale_provider libc locale 'C.UTF-8'")
    level.begin(Pair.beside(builtin.target.on("live"), "twin", "shop-2.0"))
    assert provider(builtin.target, "twin") == "c"


def test_where_the_locale_is_not_there_the_library_s_own_is_taken_and_told(words: Path, builtin: Server) -> None:
    manifest = read_manifest(words)
    source = replace(manifest.source, collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8")
    write_manifest(words, replace(manifest, source=source))
    placed = place(words, builtin.target, "elsewhere")
    assert provider(builtin.target, "elsewhere") == "c"
    assert any("locale" in note for note in placed.notes)


def test_a_database_of_the_provider_builtin_stays_so(builtin: Server, server: Server, tmp_path: Path) -> None:
    run(builtin.target, "create database source")
    target = builtin.target.on("source")
    run(target, "create table t as select 'a' as a")
    folder = snap(target, builtin, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    try:
        place(folder, server.target, "from_builtin")
        assert provider(server.target, "from_builtin") == "b"
    finally:
        run(server.target, "drop database if exists from_builtin with (force)")


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15, which is built with ICU, is not installed")
def test_a_database_of_icu_stays_so_and_where_there_is_none_it_is_told(
    servers: Servers, server: Server, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    old = servers(15)
    run(old.target, "create database of_icu template template0 locale_provider icu icu_locale 'de' locale 'C.UTF-8'")
    target = old.target.on("of_icu")
    try:
        run(target, "create table t as select 'a' as a")
        folder = snap(target, old, tmp_path / "snapshots")
        place(folder, old.target, "icu_again")
        assert provider(old.target, "icu_again") == "i"
        placed = place(folder, server.target, "icu_elsewhere")
        assert provider(server.target, "icu_elsewhere") == "c"
        assert any("ICU" in note for note in placed.notes)
    finally:
        for name in ("of_icu", "icu_again"):
            run(old.target, f"drop database if exists {name} with (force)")
        run(server.target, "drop database if exists icu_elsewhere with (force)")


def test_rules_of_ones_own_of_icu_come_along(words: Path) -> None:
    """PostgreSQL 16 and newer have them (CREATE DATABASE page); those of the tests are built without ICU."""
    manifest = read_manifest(words)
    assert "icu_rules" not in manifest.as_json()["source"]  # older versions read it still
    source = replace(manifest.source, provider="i", locale="de", icu_rules="&a < g")
    write_manifest(words, replace(manifest, source=source))
    assert read_manifest(words).source == source
    said = create_database(source, locales(source)[0], "UTF8").as_string(None)
    assert "\"icu\" icu_locale = 'de' icu_rules = '&a < g'" in said
