"""Tables that ALTER TABLE rewrites while changes are captured: the log has nothing of it, and each drain says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from books import Books, books
from postgres_servers import Servers, drop_database, fresh_database, has_postgres

from safepoint.launch.verbs.wayback import unseen_of
from safepoint.postgres.connections import connect
from safepoint.wayback.capture.capture import arm, disarm, drain

LAUNCH = "books-2.0"
# An import that takes a table out of the log, and puts it back; one that comes with its rows; each value another one.
REWRITES = (
    "alter table rate set unlogged; insert into rate values ('2026-01-01', 1); alter table rate set logged",
    "create unlogged table brought (id int primary key); insert into brought values (1); "
    "alter table brought set logged",
    "alter table ledger_line alter amount type numeric(12, 2) using amount * 2",
)
HARMLESS = (
    "truncate django_admin_log",
    "vacuum full django_session",
    "cluster ledger_account using ledger_account_pkey",
    "alter table ledger_entry add noted timestamptz default clock_timestamp()",
    "create temp table passing (n int); alter table passing alter n type int8",
)


@pytest.fixture(params=[15, 17, 18], ids=["pg15", "pg17", "pg18"])
def site(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Books]:
    if not has_postgres(request.param):
        pytest.skip(f"PostgreSQL {request.param} is not on this machine")
    database = fresh_database(servers(request.param))
    try:
        with books(database) as made:
            yield made
    finally:
        drop_database(database)


def test_what_a_rewrite_did_to_rows_is_told_as_not_captured(site: Books, tmp_path: Path) -> None:
    facts = arm(site.target, LAUNCH)
    run(site, *HARMLESS)
    assert drain(site.target, facts, tmp_path / "spool").unseen == ()
    run(site, *REWRITES)
    for _ in range(2):  # nothing takes it back
        found = drain(site.target, facts, tmp_path / "spool")
        assert found.unseen == ("public.brought", "public.ledger_line", "public.rate")
    assert "it was rewritten by ALTER TABLE (SET UNLOGGED" in unseen_of(found.as_json())[0]
    disarm(site.target, facts)
    with connect(site.target) as connection:
        left = connection.execute("select count(*) from pg_event_trigger, pg_namespace where nspname ~ '^safepoint'")
        assert left.fetchone() == (0,)


def test_where_triggers_capture_only_what_they_do_not_see_is_told(site: Books, tmp_path: Path) -> None:
    facts = arm(site.target, LAUNCH, "triggers")
    run(site, *HARMLESS, *REWRITES[:2])
    assert drain(site.target, facts, tmp_path / "spool").unseen == ()
    run(site, REWRITES[2])
    assert drain(site.target, facts, tmp_path / "spool").unseen == ("public.ledger_line",)
    disarm(site.target, facts)
    with connect(site.target) as connection:
        left = connection.execute(
            "select (select count(*) from pg_event_trigger), to_regnamespace('safepoint_capture')"
        )
        assert left.fetchone() == (0, None)


def test_a_rewrite_that_is_undone_is_not_told(site: Books, tmp_path: Path) -> None:
    facts = arm(site.target, LAUNCH)
    with psycopg.connect(**site.application.conninfo()) as connection:  # type: ignore[arg-type]
        connection.execute("alter table ledger_line alter amount type numeric(12, 2) using amount * 2")
        connection.rollback()
    assert drain(site.target, facts, tmp_path / "spool").unseen == ()


def run(site: Books, *statements: str) -> None:
    """As the application does."""
    with psycopg.connect(**site.application.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        for statement in statements:
            for one in statement.split("; "):
                connection.execute(one)  # type: ignore[call-overload]
