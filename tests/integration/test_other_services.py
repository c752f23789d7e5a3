"""An environment that leads PostgreSQL's programs elsewhere, or has them write otherwise: PGSERVICE, PGDATESTYLE ..."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import snap
from postgres_servers import Servers
from replay_ground import ask, ground

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


def test_what_is_written_in_one_terminal_is_read_in_another_whatever_style_of_dates_each_has(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot is proven by cron, and a capture is drained here and carried back there."""
    before = "create table event (id int primary key, day date, spans tstzrange[])"
    with ground(database, tmp_path, before, "alter table event add note text") as made:
        monkeypatch.setenv("PGDATESTYLE", "German")
        monkeypatch.setenv("PGTZ", "Asia/Tokyo")
        made.write("insert into event values (1, date '2026-02-01', array['[2026-02-01 00:00Z,)'::tstzrange])")
        made.drain()
        snapshot = snap(database, server, tmp_path / "snapshots")
        monkeypatch.delenv("PGDATESTYLE")
        monkeypatch.delenv("PGTZ")
        assert made.replay().put_aside == 0
        assert made.old("select day::text from event") == [("2026-02-01",)]
        assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows >= 1


def test_an_address_of_the_environment_leads_no_session_and_no_program_elsewhere(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")  # nobody listens there
    with connect(database) as connection:
        connection.execute("create table kept as select 1 as n")
    assert prove(snap(database, server, tmp_path / "snapshots"), scratch_parent=tmp_path / "scratch").rows == 1
