"""Stopping writes at the database: the holds, their exact undoing, and the proof that nobody wrote."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator

import psycopg
import pytest
from books import Books, Hammer, books, count, killed_after
from psycopg import sql

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence.fence import FencePrior, close, reopen, standing, survey_fence
from safepoint.wayback.fence.obstacles import in_the_way
from safepoint.wayback.fence.quiet import QuietMark, drop_quiet_slot, mark_quiet, prove_quiet, safe_point

INSERT = "insert into ledger_entry (memo, author_id) values ('late', 1)"


@pytest.fixture
def site(database: Target) -> Iterator[Books]:
    with books(database) as made:
        yield made


@pytest.fixture
def any_site(any_database: Target) -> Iterator[Books]:
    with books(any_database) as made:
        yield made


def settings(target: Target) -> list[tuple[object, ...]]:
    query = "select setdatabase, setrole, setconfig from pg_db_role_setting order by 1, 2"
    logins = "select oid, rolcanlogin from pg_roles where rolname not like 'pg\\_%' order by 1"
    with connect(target.on("postgres")) as connection:
        return [*connection.execute(query).fetchall(), *connection.execute(logins).fetchall()]


def test_a_closed_fence_keeps_the_application_out_and_is_undone_exactly(any_site: Books) -> None:
    target, role = any_site.target, any_site.role
    with connect(target.on("postgres")) as connection:
        name = sql.Identifier(target.dbname)
        connection.execute(sql.SQL("alter database {} set default_transaction_read_only = off").format(name))
        connection.execute(f"alter role {role} set default_transaction_read_only = 'no'")
        connection.execute(
            sql.SQL("alter role {} in database {} set work_mem = '5MB'").format(sql.Identifier(role), name)
        )
    before = settings(target)
    prior = FencePrior.from_json(survey_fence(target, [role]).as_json())
    assert prior.logins == (role,)

    with connect(any_site.application) as session:
        facts = close(target, prior)
        assert facts.ended_sessions == 1
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    with pytest.raises(DatabaseError, match="not permitted to log in"):
        connect(any_site.application)
    state = standing(target, prior)
    assert state.holds and state.sessions == ()
    with connect(target) as connection:
        connection.execute(INSERT)  # the conductor's own sessions may write

    reopen(target, prior)
    assert not standing(target, prior).holds
    assert settings(target) == before
    with connect(any_site.application) as connection:
        connection.execute(INSERT)


def test_a_role_that_another_database_s_fence_holds_off_is_in_the_way_of_this_one_s(site: Books) -> None:
    """The two applications share it: whoever was launched second came back to a release that could not log in."""
    first, role = site.target, site.role
    second = dataclasses.replace(first, dbname=f"{first.dbname}_second")
    with connect(first.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(second.dbname)))
    try:
        assert in_the_way(second, roles=[role]) is None
        prior = survey_fence(first, [role])
        close(first, prior)
        found = in_the_way(second, roles=[role])
        assert found is not None and role in found and first.dbname in found and "cannot log in" in found
        assert in_the_way(first, roles=[role]) is None  # its own
        reopen(first, prior)
        assert in_the_way(second, roles=[role]) is None
    finally:
        with connect(first.on("postgres")) as connection:
            connection.execute(sql.SQL("drop database {}").format(sql.Identifier(second.dbname)))


def test_closing_and_reopening_twice_changes_nothing_more(site: Books) -> None:
    before = settings(site.target)
    prior = survey_fence(site.target, [site.role])
    close(site.target, prior)
    once = settings(site.target)
    close(site.target, prior)
    assert settings(site.target) == once
    reopen(site.target, prior)
    reopen(site.target, prior)
    assert settings(site.target) == before


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.02, 0.06])
def test_a_close_that_was_killed_is_undone_or_gone_on_with(site: Books, seconds: float) -> None:
    before = settings(site.target)
    prior = survey_fence(site.target, [site.role])
    code = (
        "import json\nfrom safepoint.wayback.fence.fence import FencePrior, close\n"
        f"prior = FencePrior.from_json(json.loads({prior_json(prior)!r}))\n"
        "print('begins', flush=True)\nclose(target, prior)\n"
    )
    killed_after(seconds, code, site.target)
    assert close(site.target, prior).closed_logins == (site.role,)
    assert standing(site.target, prior).holds
    killed_after(seconds, code.replace("close", "reopen"), site.target)
    reopen(site.target, prior)
    assert settings(site.target) == before


def prior_json(prior: FencePrior) -> str:
    return json.dumps(prior.as_json())


def test_an_application_that_reconnects_all_the_time_is_kept_out(site: Books) -> None:
    prior = survey_fence(site.target, [site.role])
    with Hammer(site.application) as hammer:
        facts = close(site.target, prior)
        rows = count(site.target)
        assert hammer.wrote > 0 and facts.returning == ()
        threading.Event().wait(0.3)
        assert count(site.target) == rows
        reopen(site.target, prior)


def test_an_application_with_the_conductors_own_role_returns_but_is_read_only(database: Target) -> None:
    with books(database) as site:
        prior = survey_fence(site.target, [site.target.user])
        assert prior.logins == () and prior.shared_roles == (site.target.user,)
        with Hammer(site.target) as hammer:
            facts = close(site.target, prior)
            rows = count(site.target)
            threading.Event().wait(0.3)
            assert facts.returning and any("conductor's own" in note for note in facts.notes)
            assert hammer.connected > 1
            assert count(site.target) == rows
        reopen(site.target, prior)


def test_a_superuser_application_loses_its_login_too(database: Target) -> None:
    with books(database, attributes="superuser") as site:
        prior = survey_fence(site.target, [site.role])
        with connect(site.application):
            assert close(site.target, prior).ended_sessions == 1
        with pytest.raises(DatabaseError, match="not permitted to log in"):
            connect(site.application)
        reopen(site.target, prior)
        connect(site.application).close()


def test_a_session_that_is_idle_in_a_transaction_is_ended_and_its_work_undone(site: Books) -> None:
    prior = survey_fence(site.target, [site.role])
    with connect(site.application, autocommit=False) as session:
        session.execute(INSERT)
        rows = count(site.target)
        assert close(site.target, prior).ended_sessions == 1
        assert count(site.target) == rows
        session.close()
    reopen(site.target, prior)


def test_a_prepared_transaction_is_refused_before_anything_changes(site: Books) -> None:
    before = settings(site.target)
    prior = survey_fence(site.target, [site.role])
    with connect(site.application) as session:
        session.execute(f"begin; {INSERT}; prepare transaction 'two phases'")
        with pytest.raises(Refused, match="prepared transaction") as refusal:
            close(site.target, prior)
        assert "two phases" in str(refusal.value) and "ROLLBACK PREPARED" in str(refusal.value)
        assert settings(site.target) == before
        session.execute("rollback prepared 'two phases'")


def test_a_replication_consumer_is_refused_by_name(site: Books) -> None:
    prior = survey_fence(site.target, [site.role])
    words = {**site.target.conninfo(), "replication": "database", "application_name": "debezium"}
    with psycopg.connect(**words, autocommit=True), pytest.raises(Refused, match="replication consumer") as refusal:
        close(site.target, prior)
    assert "debezium" in str(refusal.value)


def test_a_role_that_is_not_there_is_an_error_that_names_it(site: Books) -> None:
    with pytest.raises(DatabaseError, match="no role nobody_here"):
        survey_fence(site.target, [site.role, "nobody_here"])


def test_quiet_passes_although_other_databases_are_busy(site: Books) -> None:
    mark = QuietMark.from_json(mark_quiet(site.target, "busy").as_json())
    with connect(site.target.on("postgres")) as other:
        other.execute("create table busy (x int); insert into busy values (1); drop table busy")
    assert safe_point(site.target) > mark.lsn
    quiet = prove_quiet(site.target, mark)
    assert quiet.verdict == "pass", quiet
    assert quiet.evidence["transactions_in_cluster"] > 0
    assert drop_quiet_slot(site.target, "busy") and not drop_quiet_slot(site.target, "busy")


def test_quiet_fails_on_a_row_and_names_its_table(any_site: Books) -> None:
    mark = mark_quiet(any_site.target, "row")
    with connect(any_site.application) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(INSERT)
    quiet = prove_quiet(any_site.target, mark)
    assert quiet.verdict == "fail" and "ledger_entry" in quiet.summary
    drop_quiet_slot(any_site.target, "row")


@pytest.mark.parametrize("statement", ["alter table rate add column source text", "select lo_create(0)"])
def test_quiet_fails_on_what_leaves_no_row_in_the_log(site: Books, statement: str) -> None:
    mark = mark_quiet(site.target, "ddl")
    with connect(site.application) as connection:
        connection.execute(statement)
    assert prove_quiet(site.target, mark).verdict == "fail"
    drop_quiet_slot(site.target, "ddl")


@pytest.mark.parametrize(
    "statement",
    [
        "drop table rate",
        "select lo_unlink(lo) from (select oid lo from pg_largeobject_metadata) l",
        "alter table ledger_line drop constraint ledger_line_entry_id_fkey",
        "comment on table rate is 'x'",
    ],
)
def test_a_vacuum_excuses_nobody_who_removed_something(site: Books, statement: str) -> None:
    """A VACUUM may have a transaction id and no row in the log; so has who drops a table, and leaves no row behind."""
    with connect(site.target) as connection:
        connection.execute("select lo_create(0)")
        mark = mark_quiet(site.target, "launch-1")
        connection.execute("vacuum ledger_entry, ledger_line, auth_user")
        connection.execute(statement.encode())
    wait_for_counts(site.target)
    assert prove_quiet(site.target, mark).verdict != "pass"
    drop_quiet_slot(site.target, "launch-1")


def wait_for_counts(target: Target) -> None:
    """What a session did is counted once it has told so."""
    with connect(target) as connection:
        for _ in range(100):
            row = connection.execute("select sum(vacuum_count) from pg_stat_user_tables").fetchone()
            if row is not None and row[0] >= 3:
                return
            connection.execute("select pg_sleep(0.05), pg_stat_clear_snapshot()")


def test_quiet_is_not_disturbed_by_analyze_and_vacuum(site: Books) -> None:
    mark = mark_quiet(site.target, "upkeep")
    with connect(site.target) as connection:
        connection.execute("analyze")
        connection.execute("vacuum")
    quiet = prove_quiet(site.target, mark)
    assert quiet.verdict == "pass", quiet
    drop_quiet_slot(site.target, "upkeep")


def test_a_write_that_was_rolled_back_does_not_disturb_quiet(site: Books) -> None:
    mark = mark_quiet(site.target, "undone")
    with connect(site.application, autocommit=False) as connection:
        connection.execute(INSERT)
        connection.rollback()
    assert prove_quiet(site.target, mark).verdict == "pass"
    drop_quiet_slot(site.target, "undone")


def test_without_a_slot_quiet_rests_on_the_transaction_counter(site: Books) -> None:
    mark = dataclasses.replace(mark_quiet(site.target, "no slot"), slot=None, weaker_because="tried without")
    drop_quiet_slot(site.target, "no slot")
    assert prove_quiet(site.target, mark).verdict == "pass"
    with connect(site.target.on("postgres")) as other:
        other.execute("select pg_current_xact_id()")
    assert prove_quiet(site.target, mark).verdict == "inconclusive"
    with connect(site.application) as connection:
        connection.execute(INSERT)
    assert prove_quiet(site.target, mark).verdict == "fail"


def test_a_mark_does_not_wait_for_ever_for_an_open_transaction_elsewhere(site: Books) -> None:
    with connect(site.target.on("postgres"), autocommit=False) as other:
        other.execute("select pg_current_xact_id()")
        mark = mark_quiet(site.target, "open", timeout=0.5)
    assert mark.slot is None and "did not end" in (mark.weaker_because or "")
