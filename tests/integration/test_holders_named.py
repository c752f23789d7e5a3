"""Whoever holds what the capture waits for is named: process, role, program, for how long, and at what."""

from __future__ import annotations

import psycopg
import pytest
from books import LAUNCH, books
from postgres_servers import drop_database, fresh_database

from safepoint.errors import DatabaseError, LockNotAvailable
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm
from safepoint.wayback.sessions import asking


def refused(target: Target) -> LockNotAvailable:
    """What the capture says where it does not get a table's lock."""
    with (
        connect(target, lock_timeout=0.1) as ours,
        pytest.raises(LockNotAvailable) as refusal,
        asking("Arming the capture", "books", at=ours),
        ours.transaction(),
    ):
        ours.execute("lock table ledger_account in access exclusive mode")
    return refusal.value


def test_a_lock_that_was_not_had_says_who_has_it_and_how_to_end_that(database: Target) -> None:
    with books(database) as site, connect(site.target, autocommit=False, application_name="nightly job") as other:
        other.execute("select count(*) from ledger_account where code <> 'nobody'")
        said, pid = refused(site.target), other.info.backend_pid
    assert (
        f"pid {pid} of {site.target.user} (nightly job)" in said.message and "idle in transaction for" in said.message
    )
    assert "AccessShareLock: select count(*) from ledger_account" in str(said.found)
    assert f"pg_terminate_backend({pid})" in str(said.remedy)


def test_a_transaction_that_keeps_the_slot_from_being_made_is_named_in_the_reason_of_the_way_back(
    server: Server, database: Target
) -> None:
    elsewhere = fresh_database(server)
    try:
        with books(database) as site, connect(elsewhere, autocommit=False, application_name="import") as other:
            other.execute("create table job (id int)")
            with pytest.raises(DatabaseError, match="the oldest by pid") as refusal:
                arm(site.target, LAUNCH, lock_timeout=0.3, timeout=0.3)
            assert f"(import) in {elsewhere.dbname}, idle in transaction for" in refusal.value.message
            assert "create table job" in str(refusal.value.found)
    finally:
        drop_database(elsewhere)


def test_a_statement_with_a_password_is_not_repeated(database: Target) -> None:
    with books(database) as site, connect(site.target, autocommit=False) as other:
        other.execute("select count(*) from ledger_account where code <> 'password'")
        assert "password" not in str(refused(site.target))


def test_where_nobody_can_be_asked_the_refusal_stays_as_it_is(database: Target) -> None:
    ours = connect(database)
    ours.close()
    with pytest.raises(LockNotAvailable, match="a lock was not had in time"), asking("Arming", "books", at=ours):
        raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_prepared_transaction_is_named_with_what_decides_it(database: Target, how: How) -> None:
    with books(database) as site:
        with connect(site.target, autocommit=False) as other:
            other.execute("update ledger_account set code = code")
            other.execute("prepare transaction 'crm 7'")
        named = f"the prepared transaction crm 7 of .* in {site.target.dbname} for"
        try:
            with pytest.raises(DatabaseError, match=named) as refusal:
                arm(site.target, LAUNCH, how, lock_timeout=0.3, timeout=0.3)
        finally:
            with connect(site.target) as other:
                other.execute("rollback prepared 'crm 7'")
        assert "COMMIT PREPARED 'crm 7' or ROLLBACK PREPARED 'crm 7'" in str(refusal.value.remedy)
        assert "pg_terminate_backend" not in str(refusal.value.remedy)
        assert "public.ledger_account RowExclusiveLock" in str(refusal.value.found)
