"""What a rehearsal sees of the two servers: settings that one lacks, who keeps the log, and how fast each is."""

from __future__ import annotations

import time
from collections.abc import Callable

from awkward import run
from postgres_servers import Servers

from safepoint.launch.rehearsal.forecast import log_keeper
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.rehearsal import ground
from safepoint.rehearsal.catalogue import read_picture
from safepoint.rehearsal.forecast import measure_ratio
from safepoint.rehearsal.speeds import Io, measure_speeds, read_io


def test_a_live_setting_whose_value_the_scratch_installation_lacks_is_told_and_the_others_are_made(
    servers: Servers, new_database: Callable[[Server], Target]
) -> None:
    target = new_database(servers(18))  # built without lz4 and zstd
    with connect(target) as connection:
        own = ground.read_settings(connection)
        try:
            told = ground.set_like(target, {**own, "wal_compression": "zstd", "work_mem": "7MB"})
            assert told == (
                f"wal_compression is {own['wal_compression']} on the scratch server and zstd on the live one",
            )
            with connect(target) as fresh:
                assert fresh.execute("show work_mem").fetchone() == ("7MB",)
        finally:
            connection.execute("alter system reset work_mem")
            connection.execute("select pg_reload_conf()")


def test_what_may_keep_the_log_on_the_live_servers_disk_is_named(database: Target) -> None:
    slot = f"standby_of_{database.dbname}"
    with connect(database) as connection:
        known = log_keeper(connection)
        connection.execute("select pg_create_physical_replication_slot(%s)", [slot])
        try:
            assert log_keeper(connection) == known  # it never was used, and holds nothing
            connection.execute("select pg_drop_replication_slot(%s)", [slot])
            connection.execute("select pg_create_physical_replication_slot(%s, true)", [slot])
            assert f"the slot {slot}" in str(log_keeper(connection))
        finally:
            connection.execute("select pg_drop_replication_slot(%s)", [slot])


def test_two_servers_are_compared_in_writing_without_the_right_to_write(database: Target) -> None:
    began = time.monotonic()
    found = measure_speeds(database, database, Io(1.0, 10, 1.0), Io(2.0, 60, 1.5))
    assert time.monotonic() - began < 5.0
    assert found.write is not None and len(found.live_spills) == len(found.scratch_spills) == 3
    assert found.own == Io(1.0, 50, 0.5) and (found.scratch_sync is None or found.scratch_sync < 1.0)
    with connect(database) as connection:
        assert read_io(connection) is None and found.live_sync is None  # it does not time them
    with connect(database, options="-c track_wal_io_timing=on") as connection:
        assert read_io(connection) is not None and read_io(connection, sessions=True) is not None


def test_a_bloated_live_table_does_not_make_the_live_database_look_fast(
    database: Target, server: Server, new_database: Callable[[Server], Target]
) -> None:
    copy = new_database(server)
    fill = "insert into t select n, repeat('x', 60) from generate_series(1, {}) n"
    run(copy, "create table t (id int, words text)", fill.format(20_000), "vacuum analyze t")
    run(database, "create table t (id int, words text)", fill.format(400_000), "delete from t where id % 20 <> 0")
    run(database, "vacuum t")  # the same 20,000 rows, in twenty times as many pages
    with connect(copy) as connection:
        (table,) = read_picture(connection).tables.values()
    found = measure_ratio(database, copy, table)
    assert found is not None and found.warm > 0.75 and found.cold >= found.warm, found
    run(database, "delete from t where id < 399900", "vacuum t")
    assert measure_ratio(database, copy, table, found.pages) is None  # next to no row is left to compare by
