"""Materialised views that read another one by a function: no dump knows of it, and a restore has them all the same."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# By name, as pg_dump orders what does not depend on each other, each comes before what it reads.
MADE = """
    create table t as select 7 as a;
    create function of_z() returns bigint language plpgsql stable as 'begin return (select sum(a) from public.z); end';
    create materialized view z as select a from t;
    create materialized view "a of z" as select public.of_z() as a;
    create materialized view after as select a from "a of z";
    create materialized view never as select a, 1 / (a - 7) from t with no data
"""


def test_a_view_that_came_before_what_it_reads_is_refreshed_again(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, MADE)
    folder = snap(database, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    copy = database.on(f"{database.dbname}_copy")
    try:
        assert place(folder, server.target, copy.dbname).notes == ()
        with connect(copy) as connection:
            assert connection.execute('select a from "a of z" union all select a from after').fetchall() == [(7,), (7,)]
    finally:
        run(database, f"drop database if exists {copy.dbname} with (force)")
