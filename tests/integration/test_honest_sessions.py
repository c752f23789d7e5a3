"""What a database does to each session in it hinders neither proof nor restore."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import role, run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

LISTS = ("''", "'', public", '"$user", public', "'Odd, \"schema\"', 'it''s', pg_catalog", "'a\\b'")


@pytest.mark.parametrize("path", LISTS)
def test_a_database_whose_search_path_is_empty_or_odd_is_proven(
    servers: Servers, new_database: Callable[[Server], Target], proven: Callable[[Target], None], path: str
) -> None:
    home = new_database(servers(17))
    name = home.dbname
    with role(home, "seeker"):
        run(home, f"alter database {name} set search_path to {path}", f"alter database {name} set work_mem to '9MB'")
        run(home, f"alter role seeker in database {name} set search_path to {path}")
        run(home, f"alter role seeker in database {name} set application_name to 'it''s, so'")
        proven(home)


# As PostgreSQL's manual shows it: https://www.postgresql.org/docs/current/event-trigger-database-login-example.html
AT_LOGIN = {
    "writes a row": "insert into public.logins values (session_user, clock_timestamp())",
    "lets only some in": "if session_user <> 'postgres' then raise exception 'not you'; end if",
}


@pytest.mark.parametrize("major", [17, 18], ids=lambda major: f"pg{major}")
@pytest.mark.parametrize("what", AT_LOGIN, ids=lambda what: what.replace(" ", "-"))
def test_what_a_database_does_at_each_login_is_not_done_to_its_copies(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path, what: str, major: int
) -> None:
    server = servers(major)
    home, copy = new_database(server), new_database(server)
    run(home, "create table logins (who text, at timestamptz)", "create materialized view m as select 1 as a")
    body = f"$$ begin {AT_LOGIN[what]}; end $$"
    run(home, f"create function at_login() returns event_trigger language plpgsql security definer as {body}")
    run(home, "create event trigger at_login on login execute function at_login()")
    folder = snap(home, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    run(copy.on("postgres"), f"drop database {copy.dbname}")
    assert place(folder, server.target, copy.dbname).notes == ()


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 of Debian's packages is not installed")
def test_a_library_that_each_session_loads_need_not_be_where_it_is_proven_or_restored(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    """As `safeupdate` or `anon` are set up, by ALTER DATABASE ... SET."""
    server = servers(15)
    home, copy = new_database(server), new_database(server)
    library = Path(server.folder) / "loaded.so"
    shutil.copy("/usr/lib/postgresql/15/lib/auto_explain.so", library)
    run(home, "create table t as select 1 as a")
    run(home, f"alter database {home.dbname} set session_preload_libraries = '{library.with_suffix('')}'")
    try:
        folder = snap(home, server, tmp_path / "snapshots")
        run(copy.on("postgres"), f"drop database {copy.dbname}")
        library.unlink()
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 1
        assert place(folder, server.target, copy.dbname).rows == 1
    finally:
        run(home.on("postgres"), f"alter database {home.dbname} reset all")


# What a database's own settings do to each session in it.
BY_SETTINGS = {
    "another role": ("create role settings_app", "alter database {db} set role = 'settings_app'"),
    "another encoding": (
        "insert into t values ('Ω€Ж')",
        "comment on table t is 'Ω'",
        "alter database {db} set client_encoding = 'LATIN1'",
    ),
    "no time": tuple(
        f"alter database {{db}} set {timeout} = '1ms'"
        for timeout in (
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
        )
    ),
}


@pytest.mark.parametrize("what", BY_SETTINGS, ids=lambda what: what.replace(" ", "-"))
def test_what_a_database_sets_for_its_sessions_hinders_neither_proof_nor_restore(
    home: Target, each_server: Server, tmp_path: Path, what: str
) -> None:
    copy = home.on(f"{home.dbname}_copy")
    run(home, "create table t as select 'x'::text as a", *(line.format(db=home.dbname) for line in BY_SETTINGS[what]))
    if what == "no time" and each_server.installation.major >= 17:
        run(home, f"alter database {home.dbname} set transaction_timeout = '1ms'")
    try:
        folder = snap(home, each_server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert place(folder, each_server.target, copy.dbname).notes == ()
    finally:
        run(each_server.target, f"drop database if exists {copy.dbname} with (force)", f"drop database {home.dbname}")
        run(each_server.target, "drop role if exists settings_app")
