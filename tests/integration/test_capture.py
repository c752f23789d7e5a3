"""The capture: every change after the launch, once, in order, whatever is killed when."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import re
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from books import ENTRY, LAUNCH, Books, books, memos, write
from postgres_servers import Servers, drop_database, fresh_database, has_postgres

from safepoint.errors import CaptureLost, DatabaseError, Refused, StorageError
from safepoint.postgres.connections import connect
from safepoint.postgres.pgoutput import UNCHANGED
from safepoint.wayback.capture import log_drain
from safepoint.wayback.capture.capture import CaptureFacts, How, arm, disarm, drain, lag
from safepoint.wayback.capture.changes import Change
from safepoint.wayback.capture.spool import read_changes
from safepoint.wayback.fence.quiet import safe_point
from safepoint.wayback.names import kept_name, twin_name
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.swap import swap
from safepoint.wayback.twin.twin import make_twin


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


@pytest.mark.parametrize(("batch", "left"), [(None, 1), (1, 3)], ids=["all", "by-one"])
def test_a_kill_between_writing_and_advancing_loses_nothing_and_repeats_nothing(
    one_site: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None, left: int
) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, LAUNCH)
    write(site, "a", "b", "c")

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(log_drain, "advance", killed)
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
    transactions = itertools.groupby(one.transaction for one in read_changes(spool))
    assert [sum(1 for _ in changes) for _, changes in transactions] == [1] * 8 + [30000, 1]
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
