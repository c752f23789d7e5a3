"""A locale that is not there where a snapshot is proven or restored: rows may break rules there that they keep at home.

Nothing is wrong with those rows, or with the snapshot, and people are told what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup import restoring
from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.errors import DatabaseError, SafepointError, Unrestorable
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


@pytest.fixture
def odd(database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot of rows that keep a rule by the letters of a locale, which is nowhere; but here "C" is."""
    run(database, "create table t (name text check (upper(name) = 'Ä'))", "insert into t values ('ä')")
    folder = snap(database, server, tmp_path / "snapshots")
    manifest = read_manifest(folder)
    source = replace(manifest.source, collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8")
    write_manifest(folder, replace(manifest, source=source))
    monkeypatch.setattr(restoring, "_FALLBACK_LOCALES", ("C",))
    return folder


def prove_it(folder: Path, _server: Server, scratch: Path) -> None:
    prove(folder, scratch_parent=scratch)


def restore_it(folder: Path, server: Server, _scratch: Path) -> None:
    place(folder, server.target, "elsewhere")


@pytest.mark.parametrize(("bring", "refused"), [(prove_it, Unrestorable), (restore_it, DatabaseError)])
def test_rows_that_keep_their_rules_at_home_are_not_to_be_mended(
    odd: Path,
    server: Server,
    tmp_path: Path,
    bring: Callable[[Path, Server, Path], None],
    refused: type[SafepointError],
) -> None:
    with pytest.raises(refused, match="violates check constraint") as raised:
        bring(odd, server, tmp_path / "scratch")
    remedy = raised.value.remedy or ""
    assert "xx_XX.UTF-8" in remedy and "Install" in remedy and "Mend" not in remedy


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15, which is built with ICU, is not installed")
@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (
            (
                "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
                "create table t (a text collate ci primary key)",
            ),
            "ICU is not supported",
        ),
        (('create table t (a text collate "de-x-icu")',), "collation .*de-x-icu"),
    ],
    ids=["own-collation", "built-in-collation"],
)
def test_a_collation_of_icu_asks_for_a_server_that_has_it(
    servers: Servers,
    server: Server,
    new_database: Callable[..., Target],
    tmp_path: Path,
    needs: tuple[str, ...],
    said: str,
) -> None:
    source = new_database(servers(15))
    run(source, *needs)
    with pytest.raises(DatabaseError, match=said) as raised:
        place(snap(source, servers(15), tmp_path / "snapshots"), server.target, "elsewhere")
    assert "with ICU" in (raised.value.remedy or "")
