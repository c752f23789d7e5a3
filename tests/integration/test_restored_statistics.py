"""A restored database has the planner's statistics: what takes the live one's place is as quick as that was."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers, drop_database

from safepoint.backup.placement import place
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

MADE = """
    create schema "Of Sales"; set search_path = "Of Sales", public;
    create table entry (id int primary key, what text); insert into entry select n, 'w' from generate_series(1, 500) n;
    create index on entry (lower(what));
    create table part (id int) partition by range (id);
    create table part_1 partition of part for values from (1) to (1000);
    insert into part select generate_series(1, 500);
    create materialized view seen as select id from entry;
    alter database {db} set default_transaction_read_only = on
"""


def test_tables_partitioned_ones_and_views_are_analysed(database: Target, servers: Servers, tmp_path: Path) -> None:
    run(database, MADE.format(db=database.dbname))
    folder = snap(database, servers(17), tmp_path / "snapshots")
    copy = database.on(f"{database.dbname}_copy")
    try:
        assert place(folder, database, copy.dbname).notes == ()
        with connect(copy) as connection:
            found = connection.execute("select distinct tablename::text from pg_stats where schemaname = 'Of Sales'")
            assert {row[0] for row in found} == {"entry", "entry_lower_idx", "part", "part_1", "seen"}
            pages = connection.execute("select reltuples from pg_class where relname = 'entry'").fetchone()
            assert pages == (500,)
    finally:
        drop_database(copy)
