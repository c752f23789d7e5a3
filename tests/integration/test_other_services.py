"""An environment that leads PostgreSQL's programs elsewhere than the plan file does: PGSERVICE, PGHOSTADDR."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import snap
from postgres_servers import Servers
from replay_ground import ask

from safepoint.backup.proof import prove
from safepoint.backup.restoring import restored
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

TABLES = "select relname::text from pg_class where relnamespace = 'public'::regnamespace order by 1"


def test_a_service_of_the_environment_leads_no_restore_into_the_live_database(
    database: Target, server: Server, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an operator has it in the profile of a shell: the live server. What is restored has its database's name."""
    with connect(database) as connection:
        connection.execute("create table a_removed_one as select n from generate_series(1, 3) n")
        connection.execute("create table kept ()")
    snapshot = snap(database, server, tmp_path / "snapshots")
    with connect(database) as connection:
        connection.execute("drop table a_removed_one")
    (tmp_path / "services").write_text(
        f"[live]\nhost=127.0.0.1\nport={server.port}\nuser={database.user}\npassword={database.password}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGSERVICE", "live")
    with restored(snapshot, scratch_parent=tmp_path / "scratch") as copy:
        assert ask(copy.target, TABLES) == [("a_removed_one",), ("kept",)]
    assert ask(database, TABLES) == [("kept",)]
    assert snap(database, server, tmp_path / "snapshots", "again").is_dir()


def test_an_address_of_the_environment_leads_no_session_and_no_program_elsewhere(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")  # nobody listens there
    with connect(database) as connection:
        connection.execute("create table kept as select 1 as n")
    assert prove(snap(database, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").rows == 1
