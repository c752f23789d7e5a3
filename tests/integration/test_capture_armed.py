"""What arming the capture changes in a database, what it leaves out, and that all of it is put back."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from books import LAUNCH, Books, books, identities, memos, write
from postgres_servers import Servers, drop_database, fresh_database
from psycopg import sql

from safepoint.errors import DatabaseError, LockNotAvailable, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm, disarm_unrecorded, drain, lag
from safepoint.wayback.capture.promises import foresee_gaps
from safepoint.wayback.fence.quiet import drop_quiet_slot, mark_quiet
from safepoint.wayback.names import capture_name
from safepoint.wayback.twin import feed


def test_identities_are_set_where_needed_and_put_back(site: Books) -> None:
    with connect(site.application) as connection:
        connection.execute("create table coded (code text not null unique, what text)")
        connection.execute("create table late_key (id int primary key deferrable)")
        connection.execute("create table mute (id int primary key); alter table mute replica identity nothing")
        connection.execute("create unlogged table scrap (id int)")
    before = identities(site.target)
    facts = arm(site.target, LAUNCH)
    again = arm(site.target, LAUNCH)
    assert again.identities == facts.identities and again.start_lsn == facts.start_lsn
    assert {one.relation: one.now for one in facts.identities} == {
        "coded": "i",
        "late_key": "f",
        "mute": "d",
        "rate": "f",
    }
    assert [one.table for one in facts.uncovered] == ["public.scrap"] and "unlogged" in facts.promises[0]
    with connect(site.application) as connection:  # none of the application's own statements fails
        for table in ("coded", "late_key", "mute", "rate", "scrap"):
            connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))
    disarm(site.target, facts)
    disarm(site.target, facts)
    assert identities(site.target) == before
    with connect(site.target) as connection:
        assert connection.execute("select count(*) from pg_publication").fetchone() == (0,)
        slots = connection.execute("select count(*) from pg_replication_slots where slot_name = %s", [facts.slot])
        assert slots.fetchone() == (0,)


def test_a_virtual_column_without_a_key_is_left_out_rather_than_breaking_the_application(servers: Servers) -> None:
    database = fresh_database(servers(18))
    try:
        with books(database) as site:
            with connect(site.application) as connection:
                connection.execute("create table doubled (x int, y int generated always as (x * 2) virtual)")
                connection.execute("create table halved (x int, y int generated always as (x / 2) stored)")
                connection.execute("create table by_sum (x int, y int generated always as (x + 1) stored primary key)")
                connection.execute("insert into doubled values (1)")
                connection.execute("insert into halved values (1); insert into by_sum values (1)")
            facts = arm(database, LAUNCH)
            assert not facts.all_tables and [one.table for one in facts.uncovered] == ["public.doubled"]
            with connect(site.application) as connection:
                connection.execute("update doubled set x = 2")
                connection.execute("update halved set x = 2; update by_sum set x = 2")
            disarm(database, facts)
    finally:
        drop_database(database)


def test_a_capture_that_was_broken_off_while_it_was_made_is_taken_away_by_its_name(
    site: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise psycopg.OperationalError("the server stopped")

    before = identities(site.target)
    with monkeypatch.context() as patched:
        patched.setattr("safepoint.wayback.capture.capture.look_up_slot", stopped)
        with pytest.raises(DatabaseError):
            arm(site.target, LAUNCH, purpose="between")
    left = (
        "select (select count(*) from pg_publication) + (select count(*) from pg_replication_slots where database = %s)"
    )
    with connect(site.target) as connection:
        assert connection.execute(left, [site.target.dbname]).fetchone() == (2,)
        for _ in range(2):
            disarm_unrecorded(site.target, LAUNCH, "between")
            assert connection.execute(left, [site.target.dbname]).fetchone() == (0,)
    assert identities(site.target) == before


def test_a_reader_that_a_kill_left_behind_does_not_keep_the_capture_from_being_removed(one_site: Books) -> None:
    site = one_site
    facts = arm(site.target, LAUNCH)
    left = psycopg.connect(**site.target.conninfo(), autocommit=True, replication="database")  # type: ignore[arg-type,call-overload]
    try:
        publication = f"(proto_version '1', publication_names '{facts.publication}')"
        left.pgconn.exec_(f"START_REPLICATION SLOT {facts.slot} LOGICAL 0/0 {publication}".encode())
        assert lag(site.target, facts).active
        disarm(site.target, facts)
    finally:
        left.close()
    with connect(site.target) as connection:
        found = connection.execute("select from pg_replication_slots where slot_name = %s", [facts.slot])
        assert found.fetchall() == []


def test_an_owner_without_superuser_rights_captures_its_own_tables(database: Target, tmp_path: Path) -> None:
    with books(database, attributes="replication") as site:
        with connect(database) as connection:
            connection.execute("create table of_someone_else (id int primary key)")
        facts = arm(site.application, LAUNCH)
        assert facts.mode == "logical" and not facts.all_tables
        assert [one.table for one in facts.uncovered] == ["public.of_someone_else"]
        with connect(site.application) as connection:
            missing = foresee_gaps(connection, facts.mode)
        assert missing == facts.promises and "of_someone_else" in missing[0] and "made after the launch" in missing[1]
        write(site, "listed")
        assert drain(site.application, facts, tmp_path / "spool").unseen == ()
        with connect(site.application) as connection:
            connection.execute("create table later (id int primary key)")
            connection.execute("create temp table passing (id int)")
        assert drain(site.application, facts, tmp_path / "spool").unseen == ("public.later",)
        assert memos(tmp_path / "spool") == ["listed"]
        disarm(site.application, facts)


def test_a_launch_of_the_same_id_on_another_database_of_the_server_leaves_the_slots_alone(
    server: Server, database: Target, tmp_path: Path
) -> None:
    other = fresh_database(server)
    try:
        with books(database) as site:
            quiet = mark_quiet(site.target, LAUNCH)
            with feed.opened(site.target, LAUNCH) as at:
                pass
            facts = arm(site.target, LAUNCH)
            # There is one name for both, so the other one cannot have its own; and takes back what it has made.
            with pytest.raises(Refused, match="not this capture's"):
                arm(other, LAUNCH)
            disarm_unrecorded(other, LAUNCH, "capture")
            assert feed.begins_at(other, LAUNCH) is None and feed.standing(other, LAUNCH, at.lsn) is None
            assert not feed.end(other, LAUNCH) and not drop_quiet_slot(other, LAUNCH)
            write(site, "kept")
            drain(site.target, facts, tmp_path / "spool")
            assert memos(tmp_path / "spool") == ["kept"]
            assert feed.standing(site.target, LAUNCH, at.lsn) is not None and quiet.slot is not None
            disarm(site.target, facts)
            assert feed.end(site.target, LAUNCH) and drop_quiet_slot(site.target, LAUNCH)
            with connect(other) as connection:
                assert connection.execute("select count(*) from pg_publication").fetchone() == (0,)
    finally:
        drop_database(other)


def test_a_table_that_is_unlogged_or_comes_so_is_told_where_all_tables_are_captured(
    one_site: Books, tmp_path: Path
) -> None:
    site, spool = one_site, tmp_path / "spool"
    with connect(site.application) as connection:
        connection.execute("create unlogged table scrap (id int)")
        facts = arm(site.target, LAUNCH)
        assert facts.all_tables and len(facts.promises) == 1 and drain(site.target, facts, spool).unseen == ()
        connection.execute("create table later (id int); create unlogged table fast (id int)")
        assert drain(site.target, facts, spool).unseen == ("public.fast",)
    disarm(site.target, facts)


def test_without_the_right_to_replicate_nothing_is_changed_and_the_loss_is_said(
    one_site: Books, tmp_path: Path
) -> None:
    before = identities(one_site.target)
    facts = arm(one_site.application, LAUNCH, "logical")
    assert facts.mode == "none" and "REPLICATION" in (facts.reason or "")
    assert any("deleted rows" in promise for promise in facts.promises)
    assert identities(one_site.target) == before
    with pytest.raises(Refused):
        drain(one_site.application, facts, tmp_path / "spool")
    disarm(one_site.application, facts)


def test_when_all_slots_are_used_up_arming_undoes_itself(one_site: Books) -> None:
    before = identities(one_site.target)
    with connect(one_site.target) as connection:
        used: list[str] = []
        try:
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):  # noqa: PT012 - one of these fails
                while True:
                    name = f"used_{len(used)}"
                    connection.execute("select pg_create_physical_replication_slot(%s)", [name])
                    used.append(name)
            facts = arm(one_site.target, LAUNCH, "logical")
        finally:
            for name in used:
                connection.execute("select pg_drop_replication_slot(%s)", [name])
    assert facts.mode == "none" and "slots are in use" in (facts.reason or "")
    assert identities(one_site.target) == before


def test_a_locked_table_ends_arming_in_time_with_nothing_changed(one_site: Books) -> None:
    before = identities(one_site.target)
    with connect(one_site.application, autocommit=False) as connection:
        connection.execute("lock table rate")
        began = time.monotonic()
        with pytest.raises(LockNotAvailable):
            arm(one_site.target, LAUNCH, lock_timeout=0.3)
        assert time.monotonic() - began < 5
    assert identities(one_site.target) == before


def test_an_open_transaction_elsewhere_ends_arming_with_its_name(one_site: Books) -> None:
    with connect(one_site.target.on("postgres"), autocommit=False) as other:
        other.execute("select pg_current_xact_id()")
        with pytest.raises(DatabaseError, match="open in the cluster") as refusal:
            arm(one_site.target, LAUNCH, timeout=0.5)
        assert f"pid {other.info.backend_pid}" in str(refusal.value)
    facts = arm(one_site.target, LAUNCH)  # goes on where it was
    assert facts.mode == "logical"
    disarm(one_site.target, facts)


def test_a_publication_of_someone_else_is_left_alone(one_site: Books) -> None:
    with connect(one_site.target) as connection:
        connection.execute(f"create publication {capture_name(LAUNCH)}")
    with pytest.raises(Refused, match="did not make"):
        arm(one_site.target, LAUNCH)
