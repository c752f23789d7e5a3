"""The capture: every change after the launch, once, in order, whatever is killed when."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from books import Books, books
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from psycopg import sql

from safepoint.errors import CaptureLost, DatabaseError, LockNotAvailable, Refused, StorageError
from safepoint.postgres.connections import connect
from safepoint.postgres.pgoutput import UNCHANGED
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback import capture, feed, log_drain
from safepoint.wayback.capture import CaptureFacts, How, arm, disarm, disarm_unrecorded, drain, lag
from safepoint.wayback.changes import Change
from safepoint.wayback.names import capture_name, kept_name, twin_name
from safepoint.wayback.pair import Pair
from safepoint.wayback.promises import foresee_gaps
from safepoint.wayback.quiet import drop_quiet_slot, mark_quiet, safe_point
from safepoint.wayback.spool import read_changes, read_transactions
from safepoint.wayback.swap import swap
from safepoint.wayback.twin import make_twin

LAUNCH = "books-2.0"
ENTRY = "insert into ledger_entry (memo, author_id) values (%s, 1)"


def write(site: Books, *memos: str) -> None:
    with connect(site.application) as connection:
        for memo in memos:
            connection.execute(ENTRY, [memo])


def memos(spool: Path) -> list[object]:
    return [change.new.get("memo") for change in read_changes(spool)]


def identities(target: Target) -> list[tuple[object, ...]]:
    with connect(target) as connection:
        return connection.execute(
            "select relname, relreplident::text from pg_class "
            "where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
        ).fetchall()


def test_rows_values_and_order_are_those_of_postgresqls_own_decoder(site: Books, tmp_path: Path) -> None:
    facts = CaptureFacts.from_json(arm(site.target, LAUNCH).as_json())
    with connect(site.target) as connection:
        connection.execute("select pg_create_logical_replication_slot('reference', 'test_decoding')")
    with connect(site.application, autocommit=False) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("insert into rate values ('2026-03-01', 0.30000000000000004), (null, 'NaN')")
        connection.execute("update rate set rate = rate + 1 where day is not null")
        connection.commit()
        connection.execute(ENTRY, ["two\nlines, 'quoted' – ünïcode"])
        connection.execute("update ledger_line set amount = amount * 2, id = id + 100")
        connection.execute("delete from ledger_line where amount < 0")
        connection.commit()
        connection.execute("truncate ledger_line, rate")
        connection.commit()
        connection.execute(ENTRY, ["never"])
        connection.rollback()
    done = drain(site.target, facts, tmp_path / "spool")
    assert done.complete and (done.transactions, done.changes) == (3, 8)

    with connect(site.target) as connection:
        rows = connection.execute(
            "select data from pg_logical_slot_get_changes('reference', null, null, "
            "'include-xids', '0', 'skip-empty-xacts', '1')"
        ).fetchall()
        connection.execute("select pg_drop_replication_slot('reference')")
    theirs = [row[0] for row in rows if row[0].startswith("table ")]
    ours = list(read_changes(tmp_path / "spool"))
    actions = [re.findall(r": (INSERT|UPDATE|DELETE|TRUNCATE):", line)[0].lower() for line in theirs]
    # One TRUNCATE of two tables is one line of the reference and a change per table here.
    assert Counter(change.action for change in ours) == Counter(actions) + Counter({"truncate": 1})
    assert ours[0].new == {"day": "2026-03-01", "rate": "0.30000000000000004"}
    assert ours[1].new == {"day": None, "rate": "NaN"}
    assert ours[2].old == ours[0].new and ours[2].new["rate"] == "1.3" and ours[2].identity == {}
    assert ours[3].new["memo"] == "two\nlines, 'quoted' – ünïcode"
    moved = [change for change in ours if change.table == "public.ledger_line" and change.action == "update"]
    assert [(change.old["id"], change.new["id"], change.new["amount"]) for change in moved] == [
        ("1", "101", "20.00"),
        ("2", "102", "-20.00"),
    ]
    assert [change.identity for change in ours if change.action == "delete"] == [{"id": "102"}]
    disarm(site.target, facts)


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
        patched.setattr("safepoint.wayback.capture.look_up_slot", stopped)
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


def test_what_was_drained_is_not_decoded_again_by_the_next_drain(site: Books, tmp_path: Path) -> None:
    facts, spool = arm(site.target, LAUNCH), tmp_path / "spool"
    far = "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) from pg_replication_slots where slot_name = %s"
    with connect(site.target) as connection, connect(site.application) as writer:
        for _ in range(3):
            for _ in range(10):
                writer.execute(ENTRY, ["x" * 200_000])
            drain(site.target, facts, spool)
            row = connection.execute(far, [facts.slot]).fetchone()
            assert row is not None and row[0] < 100_000, row
        open_one = psycopg.connect(**site.application.conninfo())  # type: ignore[arg-type]
        open_one.execute(ENTRY, ["begun before, committed after"])
        write(site, *("y" * 200_000 for _ in range(10)))
        drain(site.target, facts, spool)
        open_one.commit()
        open_one.close()
        drain(site.target, facts, spool)
    assert len(memos(spool)) == 41 and memos(spool)[-1] == "begun before, committed after"
    disarm(site.target, facts)


@pytest.mark.parametrize(("room", "batch", "left"), [(capture, None, 1), (log_drain, 1, 3)], ids=["all", "by-one"])
def test_a_kill_between_writing_and_advancing_loses_nothing_and_repeats_nothing(
    one_site: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: ModuleType, batch: int | None, left: int
) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH)
    write(site, "a", "b", "c")

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(room, "advance", killed)
        with pytest.raises(Killed):
            drain(site.target, facts, spool, batch=batch)
    write(site, "d")
    assert drain(site.target, facts, spool).transactions == left
    assert memos(spool) == ["a", "b", "c", "d"]
    disarm(site.target, facts)


@pytest.mark.parametrize("torn", [0, 7])
@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_kill_before_what_was_written_is_durable_leaves_an_end_that_does_not_count(
    one_site: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How, torn: int
) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH, how)
    write(site, "a", "b")
    drain(site.target, facts, spool)
    write(site, "c", "d")

    class Killed(BaseException):
        pass

    def killed(handle: int) -> None:
        assert Path(f"/proc/self/fd/{handle}").readlink() == spool
        raise Killed

    before = spool.stat().st_size
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", killed)
        with pytest.raises(Killed):
            drain(site.target, facts, spool)
    assert spool.stat().st_size > before + torn
    spool.write_bytes(spool.read_bytes()[: spool.stat().st_size - torn])
    assert memos(spool) == ["a", "b"]  # the server still has the rest, which may not be on the disk
    assert drain(site.target, facts, spool).transactions == 2
    assert memos(spool) == ["a", "b", "c", "d"]
    disarm(site.target, facts)


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_the_server_keeps_what_a_failed_sync_left_in_doubt(
    one_site: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH, how)
    write(site, "a", "b")
    fsync, fails, disk = os.fsync, True, b""

    def synced(handle: int) -> None:
        nonlocal fails, disk
        if Path(f"/proc/self/fd/{handle}").readlink() == spool:
            if fails:
                raise OSError(errno.EIO, "Input/output error")
            disk = spool.read_bytes()
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", synced)
        with pytest.raises(StorageError, match="Input/output error"):
            drain(site.target, facts, spool)
        fails = False
        assert drain(site.target, facts, spool).transactions == 2
    spool.write_bytes(disk)  # the power failed: what no fsync was told of is gone
    assert memos(spool) == ["a", "b"]
    disarm(site.target, facts)


def test_small_batches_and_a_giant_transaction_give_the_same_as_one_read(one_site: Books, tmp_path: Path) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH)
    write(site, *"abcdefgh")
    with connect(site.application) as connection:
        connection.execute(
            "insert into ledger_entry (memo, author_id) select 'giant', 1 from generate_series(1, 30000)"
        )
    write(site, "after")
    done = drain(site.target, facts, spool, batch=3)
    assert (done.transactions, done.changes, done.complete) == (10, 30009, True)
    counts = [(transaction.xid, sum(1 for _ in changes)) for transaction, changes in read_transactions(spool)]
    assert [number for _, number in counts] == [1] * 8 + [30000, 1]
    assert drain(site.target, facts, spool).transactions == 0
    disarm(site.target, facts)


def test_messages_of_the_application_fill_no_read_however_many_they_are(
    site: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those outside of transactions come at once, before the commit of whoever sends them."""
    facts, spool = arm(site.target, LAUNCH), tmp_path / "spool"
    many = "select count(pg_logical_emit_message({}, 'app', 'x')) from generate_series(1, 20001)"
    with connect(site.application, autocommit=False) as connection:
        connection.execute(ENTRY, ["written"])
        connection.execute(many.format(False).encode())
        connection.execute(many.format(True).encode())
        connection.commit()
    with monkeypatch.context() as patched:
        patched.setattr(log_drain, "PEEK", log_drain.PEEK.replace("'false'", "'true'"))
        with pytest.raises(DatabaseError, match="without the end of a transaction"):
            drain(site.target, facts, spool)
    done = drain(site.target, facts, spool)
    assert (done.complete, done.transactions, memos(spool)) == (True, 1, ["written"])
    disarm(site.target, facts)


def test_a_drain_stops_at_the_given_lsn_and_when_cancelled(one_site: Books, tmp_path: Path) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH)
    write(site, "before")
    until = safe_point(site.target)
    write(site, "after")
    assert not drain(site.target, facts, spool, cancelled=lambda: True).complete
    drain(site.target, facts, spool, up_to=until)
    assert memos(spool) == ["before"]
    drain(site.target, facts, spool)
    assert memos(spool) == ["before", "after"]
    disarm(site.target, facts)


def test_commits_that_have_not_reached_the_disk_yet_are_drained_too(site: Books, tmp_path: Path) -> None:
    facts, spool = arm(site.target, LAUNCH), tmp_path / "spool"
    with connect(site.target) as admin:
        admin.execute("alter system set wal_writer_delay = '10s'")  # nobody else brings them there meanwhile
        admin.execute("select pg_reload_conf()")
        try:
            with connect(site.application) as connection:
                connection.execute("set synchronous_commit = off")
                for number in range(50):
                    connection.execute(ENTRY, [f"{number}"])
                assert drain(site.target, facts, spool).complete
        finally:
            admin.execute("alter system reset wal_writer_delay")
            admin.execute("select pg_reload_conf()")
    assert memos(spool) == [f"{number}" for number in range(50)]
    disarm(site.target, facts)


def test_a_large_value_that_was_not_touched_is_marked_so(one_site: Books, tmp_path: Path) -> None:
    site, spool = one_site, tmp_path / "spool"
    with connect(site.application) as connection:
        connection.execute("alter table ledger_entry alter memo set storage external")
        connection.execute("update ledger_entry set memo = repeat('long', 2000)")
    facts = arm(site.target, LAUNCH)
    with connect(site.application) as connection:
        connection.execute("update ledger_entry set approver_id = 2")
    drain(site.target, facts, spool)
    (change,) = read_changes(spool)
    assert change.new["memo"] is UNCHANGED and change.new["approver_id"] == "2"
    disarm(site.target, facts)


def test_ddl_meanwhile_is_noticed_by_its_table(one_site: Books, tmp_path: Path) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH)
    write(site, "a")
    assert drain(site.target, facts, spool).changed_tables == ()
    with connect(site.application) as connection:
        connection.execute("alter table ledger_entry add column source text")
    write(site, "b")
    assert drain(site.target, facts, spool).changed_tables == ("public.ledger_entry",)
    assert memos(spool) == ["a", "b"]
    disarm(site.target, facts)


def test_the_capture_moves_with_the_swapped_out_database(one_site: Books, tmp_path: Path) -> None:
    site, spool = one_site, tmp_path / "spool"
    twin = make_twin(site.target, twin_name(site.target.dbname, LAUNCH), LAUNCH, at=safe_point(site.target))
    facts = arm(site.target, LAUNCH)
    write(site, "on two")
    swap(Pair.beside(site.target, twin.twin, LAUNCH), twin)
    kept = site.target.on(kept_name(site.target.dbname, LAUNCH))
    try:
        with pytest.raises(Refused, match="capture is that of database"):
            drain(site.target, facts, spool)
        drain(kept, facts, spool)
        assert memos(spool) == ["on two"]
        disarm(kept, facts)
    finally:
        drop_database(kept)


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


def test_lag_tells_what_the_server_keeps(one_site: Books, tmp_path: Path) -> None:
    site = one_site
    facts = arm(site.target, LAUNCH)
    with connect(site.application) as connection:
        connection.execute("insert into ledger_entry (memo, author_id) select 'x', 1 from generate_series(1, 5000)")
    behind = lag(site.target, facts)
    drain(site.target, facts, tmp_path / "spool")
    level = lag(site.target, facts)
    assert behind.wal_status == "reserved" and behind.retained_bytes > 500_000
    assert level.confirmed_lsn > behind.confirmed_lsn and not level.active
    disarm(site.target, facts)


@pytest.mark.parametrize("loss", ["select pg_drop_replication_slot('{0}')", "drop publication {0}"])
def test_a_capture_that_is_not_whole_any_more_says_so(site: Books, tmp_path: Path, loss: str) -> None:
    facts = arm(site.target, LAUNCH)
    write(site, "a")
    with connect(site.target) as connection:
        connection.execute(loss.format(facts.slot))  # type: ignore[call-overload]
    with pytest.raises(CaptureLost) as lost:
        drain(site.target, facts, tmp_path / "spool")
    assert "dropped" in str(lost.value) and lost.value.remedy
    with connect(site.target) as connection:
        connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s", [facts.slot]
        )


def test_a_slot_whose_wal_was_thrown_away_is_lost_and_says_so(one_site: Books, tmp_path: Path) -> None:
    site = one_site
    facts = arm(site.target, LAUNCH)
    with connect(site.target) as connection:
        connection.execute("alter system set max_slot_wal_keep_size = '1MB'")
        connection.execute("select pg_reload_conf()")
        try:
            for _ in range(4):
                connection.execute("select pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()")
            connection.execute("checkpoint")
            for ask in (lambda: lag(site.target, facts), lambda: drain(site.target, facts, tmp_path / "spool")):
                with pytest.raises(CaptureLost, match="not complete"):
                    ask()
        finally:
            connection.execute("alter system reset max_slot_wal_keep_size")
            connection.execute("select pg_reload_conf()")
    with pytest.raises(Refused, match="not this capture's"):
        arm(site.target, LAUNCH)
    disarm(site.target, facts)


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


LOGS = """
create table log (at date, what text) partition by range (at);
create table log_1 partition of log for values from ('2026-01-01') to ('2026-02-01');
create table log_9 partition of log for values from ('2026-09-01') to ('2026-10-01') partition by list (what);
create table log_9_a partition of log_9 for values in ('a');
create table visit (id int, at date, primary key (id, at)) partition by range (at);
create table visit_1 partition of visit for values from ('2026-01-01') to ('2026-02-01');
insert into log values ('2026-01-01', 'first'), ('2026-09-01', 'a');
"""
NEXT_MONTH = """
create table log_2 partition of log for values from ('2026-02-01') to ('2026-03-01');
create table log_3 (like log);
alter table log attach partition log_3 for values from ('2026-03-01') to ('2026-04-01');
create table log_9_b partition of log_9 for values in ('b');
create table visit_2 partition of visit for values from ('2026-02-01') to ('2026-03-01');
"""
MONTHLY = (
    "insert into log values ('2026-02-01', 'new'), ('2026-03-01', 'new'), ('2026-09-01', 'b')",
    "insert into visit values (1, '2026-02-01')",
    "update log set at = at + 1",
    "update visit set at = at + 1",
    "delete from log where what = 'a'",
    "delete from log where at > '2026-02-01'",
    "truncate log",
)


def monthly(application: Target) -> None:
    """What cron and the application do with tables that have a partition for each month."""
    with connect(application) as connection:
        connection.execute(NEXT_MONTH)
        for statement in MONTHLY:
            connection.execute(statement.encode())


def test_a_partition_that_comes_later_is_written_to_as_ever_where_nothing_names_its_rows(
    any_database: Target, tmp_path: Path
) -> None:
    with books(any_database, attributes="replication") as site:
        with connect(site.application) as connection:
            connection.execute(LOGS)
        facts = arm(site.application, LAUNCH)
        assert not facts.all_tables and facts.uncovered == ()
        monthly(site.application)
        drain(site.application, facts, tmp_path / "spool")
        seen = Counter(
            (change.table.removeprefix("public."), change.action) for change in read_changes(tmp_path / "spool")
        )
        assert drain(site.application, facts, tmp_path / "spool").unseen == (
            "public.log_2",
            "public.log_3",
            "public.log_9_b",
        )
        # What was there is captured to the last row, and so are the partitions of a table with a primary key.
        assert seen == {
            ("visit_2", "insert"): 1,
            ("visit_2", "update"): 1,
            ("log_1", "update"): 1,
            ("log_9_a", "update"): 1,
            ("log_9_a", "delete"): 1,
            ("log_1", "truncate"): 1,
            ("log_9_a", "truncate"): 1,
        }
        disarm(site.application, facts)


def test_the_feed_of_a_level_twin_lets_a_partition_that_comes_later_be_written_to(any_database: Target) -> None:
    with books(any_database, attributes="replication") as site:
        with connect(site.application) as connection:
            connection.execute(LOGS)
        with feed.opened(site.application, LAUNCH):
            monthly(site.application)
        feed.end(site.application, LAUNCH)


def test_where_a_virtual_column_keeps_the_capture_from_all_tables_later_partitions_are_written_to(
    servers: Servers,
) -> None:
    database = fresh_database(servers(18))
    try:
        with books(database) as site:
            with connect(site.application) as connection:
                connection.execute("create table doubled (x int, y int generated always as (x * 2) virtual)")
                connection.execute(LOGS)
            facts = arm(database, LAUNCH)
            assert not facts.all_tables
            monthly(site.application)
            with connect(site.application) as connection:
                connection.execute("alter table ledger_line drop constraint ledger_line_pkey")
                connection.execute("update ledger_line set amount = amount + 1")
            disarm(database, facts)
    finally:
        drop_database(database)


def test_a_partition_of_someone_else_is_not_published_by_way_of_its_root(any_database: Target) -> None:
    with books(any_database, attributes="replication") as site:
        with connect(site.application) as connection:
            connection.execute(LOGS)
            connection.execute("alter table visit_1 replica identity nothing")
            connection.execute("insert into visit values (1, '2026-01-01')")
        with connect(any_database) as connection:
            connection.execute("alter table visit_1 owner to current_user")
            connection.execute(f"grant all on visit_1 to {site.role}")
        facts = arm(site.application, LAUNCH)
        assert [one.table for one in facts.uncovered] == ["public.visit_1"]
        with connect(site.application) as connection:
            connection.execute("update visit set at = at + 1")
        disarm(site.application, facts)


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


def test_a_spool_of_another_capture_is_not_written_to(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    drain(one_site.target, facts, tmp_path / "spool")
    with pytest.raises(Refused, match="belongs to another capture"):
        drain(one_site.target, dataclasses.replace(facts, launch_id="other"), tmp_path / "spool")
    disarm(one_site.target, facts)


def test_it_works_on_postgresql_15(servers: Servers, tmp_path: Path) -> None:
    if not has_postgres(15):
        pytest.skip("PostgreSQL 15 is not on this machine")
    database = fresh_database(servers(15))
    try:
        with books(database) as site:
            facts = arm(database, LAUNCH)
            write(site, "a", "b")
            drain(database, facts, tmp_path / "spool")
            changes: list[Change] = list(read_changes(tmp_path / "spool"))
            assert [change.new["memo"] for change in changes] == ["a", "b"]
            disarm(database, facts)
    finally:
        drop_database(database)
