"""Partitions that come while the log is captured: whoever makes and fills them notices nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from books import LAUNCH, books
from postgres_servers import Servers, drop_database, fresh_database

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm, drain
from safepoint.wayback.capture.spool import read_changes
from safepoint.wayback.twin import feed

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
