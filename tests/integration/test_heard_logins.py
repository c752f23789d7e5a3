"""A database that writes down each login by an event trigger (PostgreSQL 17): it writes nothing down of ours, and lets
us in where that could not be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run, snap
from least_plan import LEAST
from level_ground import LAUNCH, differences, seed
from postgres_servers import drop_database
from replay_ground import ask

from safepoint.config.load import parse
from safepoint.errors import DatabaseError
from safepoint.launch.doctor.roles import rights
from safepoint.postgres import connections
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.replay.replay import READ_ONLY
from safepoint.wayback.twin import feed

HEARD = """
create table logins (id int generated always as identity primary key, who text, at timestamptz);
create table made (id int generated always as identity primary key, what text);
create function at_login() returns event_trigger language plpgsql security definer as
    'begin insert into public.logins (who, at) values (session_user, clock_timestamp()); end';
create function at_command() returns event_trigger language plpgsql as
    'begin insert into public.made (what) values (tg_tag); end';
create event trigger at_login on login execute function at_login();
create event trigger at_command on ddl_command_end when tag in ('CREATE VIEW') execute function at_command();
"""


@pytest.fixture
def heard(database: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Such a database; nothing is known yet of the login."""
    run(database, HEARD)
    monkeypatch.setattr(connections, "_UNTRIGGERED", {})
    return database


def test_the_first_session_that_may_not_write_is_let_in_and_what_it_does_is_heard_as_ever(heard: Target) -> None:
    with connect(heard, options=READ_ONLY) as connection:
        assert connection.execute("select count(*) from logins").fetchone() == (0,)
    run(heard, "create view seen as select 1 as a")
    assert ask(heard, "select what from made") == [("CREATE VIEW",)] and ask(heard, "select * from logins") == []


def test_who_is_no_superuser_is_told_what_kept_him_out_and_how_he_is_let_in(heard: Target, tmp_path: Path) -> None:
    plan, plain = parse(LEAST, tmp_path / "launch.toml"), heard.login("plain", "plain")
    run(heard, "create role plain login password 'plain'")
    try:
        with pytest.raises(DatabaseError, match="read-only transaction"):
            connect(plain, options=READ_ONLY)
        with connect(plain) as connection:
            told = [one for one in rights(connection, plan, survey(connection)) if "at_login" in one.message]
        assert [one.remedy for one in told if one.remedy] and ("plain",) in ask(heard, "select who from logins")
        run(heard, "grant set on parameter event_triggers to plain", "truncate logins")
        connections._UNTRIGGERED.clear()  # as another command will find it
        with connect(plain, options=READ_ONLY) as connection:
            assert not [one for one in rights(connection, plan, survey(connection)) if "at_login" in one.message]
        assert ("plain",) not in ask(heard, "select who from logins")
    finally:
        run(heard, "revoke set on parameter event_triggers from plain", "drop role plain")


def test_neither_a_dump_nor_a_level_twin_writes_a_row(heard: Target, server: Server, tmp_path: Path) -> None:
    run(heard, "select 1")  # so that it is known who we are
    before = ask(heard, "select count(*) from logins")
    snap(heard, server, tmp_path / "snapshots")
    made = seed(heard, tmp_path)
    try:
        run(heard, "insert into made (what) values ('later')")
        made.finish()
        assert differences(heard, made.twin) == [] and ask(heard, "select count(*) from logins") == before
    finally:
        feed.end(heard, LAUNCH)
        drop_database(heard.on(made.twin))
