"""Partitions that are named by an index which REPLICA IDENTITY chose: what it takes to see that all of them are."""

from __future__ import annotations

import time

from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.identity import survey
from safepoint.wayback.mapping.catalogue import read_catalogue

MANY = 500
PARTED = [
    "create table day (id int not null, day int not null, v text) partition by list (day)",
    f"do $$ begin for i in 1..{MANY} loop"
    " execute format('create table day_%s partition of day for values in (%s)', i, i); end loop; end $$",
    "create unique index day_key on day (id, day)",
    "alter table day replica identity using index day_key",
    "do $$ declare one record; begin for one in select i.indexrelid::regclass as key, i.indrelid::regclass as part"
    " from pg_index i join pg_inherits h on h.inhrelid = i.indexrelid where h.inhparent = 'day_key'::regclass loop"
    " execute format('alter table %s replica identity using index %s', one.part, one.key); end loop; end $$",
]


def test_an_index_that_all_of_hundreds_of_partitions_share_is_seen_in_seconds(database: Target) -> None:
    with connect(database) as connection:
        for statement in PARTED:
            connection.execute(sql.SQL(statement))
        began = time.monotonic()
        tables = survey(connection)
        key = read_catalogue(connection).tables["public.day"].key
        assert time.monotonic() - began < 10  # it took the cube of their number: half a minute
        assert key == ("id", "day") and all(one.own_serves and one.covered for one in tables)
        connection.execute("alter table day_7 replica identity full")
        assert read_catalogue(connection).tables["public.day"].replica == ()
        assert not any(one.own_serves for one in survey(connection))
        connection.execute("create table day_new partition of day for values in (-1)")
        connection.execute("alter table day_7 replica identity using index day_7_id_day_idx")
        assert read_catalogue(connection).tables["public.day"].replica == ()
