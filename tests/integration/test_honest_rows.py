"""Rows that a restore makes anew, puts elsewhere or could not check: they hinder neither proof nor restore."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers

from safepoint.backup.explain import explain
from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_a_materialised_view_whose_query_fails_in_a_copy_hinders_neither_proof_nor_restore(
    home: Target, each_server: Server, tmp_path: Path
) -> None:
    """No dump has its rows. A foreign server that is away, or a row that came since, is no fault of a snapshot."""
    run(home, "create table t as select '1' as a", 'create materialized view "Sum %" as select a::int from t')
    run(
        home, 'create materialized view more as select * from "Sum %"', "create materialized view fine as select 1 as a"
    )
    run(home, "create materialized view unfilled as select 1 as a with no data", "insert into t values ('x')")
    folder = snap(home, each_server, tmp_path / "snapshots")
    told = prove(folder, scratch_parent=tmp_path / "scratch").notes
    assert [note.split(" is without data")[0] for note in told] == [
        f"the materialised view public.{name}" for name in ('"Sum %"', "more")
    ]
    assert "invalid input syntax" in told[0]
    copy = home.on(f"{home.dbname}_copy")
    try:
        assert place(folder, each_server.target, copy.dbname).notes == told
        with connect(copy) as connection:
            assert connection.execute("select a from fine").fetchall() == [(1,)]
            assert connection.execute("select count(*) from pg_class where not relispopulated").fetchall() == [(3,)]
        again = take(copy)
    finally:
        run(home, f"drop database {copy.dbname} with (force)")
    was = read_manifest(folder).fingerprint
    assert {one.name for one in compare(was, again)} == {'public."Sum %"', "public.more"}


def test_a_virtual_column_that_cannot_be_computed_for_a_row_hinders_no_backup(
    servers: Servers, new_database: Callable[[Server], Target], proven: Callable[[Target], None]
) -> None:
    """pg_dump does not read it either. What it would be says its definition."""
    home = new_database(servers(18))
    columns = "a int, b int, ratio int generated always as (a / b), twice int generated always as (a * 2)"
    run(home, f"create table t ({columns})")
    run(home, "insert into t values (4, 2), (1, 0)")
    before = take(home)
    proven(home)
    run(home, "create table u (c int generated always as (1))", "insert into u default values")
    proven(home)
    run(home, "drop table u", "update t set b = 1 where a = 4")
    after = take(home)
    assert [(one.kind, one.name) for one in compare(before, after)] == [("table", "public.t")]
    run(home, "alter table t alter twice set expression as (a * 3)")
    assert [(one.kind, one.name) for one in compare(after, take(home))] == [("relation", "public.t")]


# The hash of an enum is that of its object id, so a restore puts the rows into other partitions.
BY_ENUM = """
    create type mood as enum ('sad', 'ok', 'happy', 'it''s');
    create domain felt as mood not null;
    create schema "By hash";
    create table "By hash".t (id int, m felt, primary key (id, m)) partition by hash (m);
    create table "By hash".t0 partition of "By hash".t for values with (modulus 2, remainder 0);
    create table t1 partition of "By hash".t for values with (modulus 2, remainder 1) partition by list (m);
    create table t1_rest partition of t1 default;
    create table above (m mood, x int) partition by range (x);
    create table below partition of above default partition by hash (m, x);
    create table b0 partition of below for values with (modulus 2, remainder 0);
    create table b1 partition of below for values with (modulus 2, remainder 1);
    insert into "By hash".t select n, (enum_range(null::mood))[1 + n % 4] from generate_series(1, 400) n;
    insert into above select m, id from "By hash".t;
"""


def test_rows_that_a_restore_puts_into_other_partitions_are_compared_as_one(
    home: Target, each_server: Server, tmp_path: Path
) -> None:
    run(home, BY_ENUM)
    folder = snap(home, each_server, tmp_path / "snapshots")
    copy = home.on(f"{home.dbname}_copy")
    try:
        assert place(folder, each_server.target, copy.dbname).rows == 800
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 800
        run(copy, 'update "By hash".t set id = 1000 where id = 7', "update above set x = 0 where x = 7")
        was, now = read_manifest(folder).fingerprint, take(copy)
        differing = {one.name for one in compare(was, now)}
        assert differing == {'"By hash".t', "public.below"}
        told = {one.table: one for one in explain(home, copy, differing)}
        assert {name: (one.changed, one.missing, one.added) for name, one in told.items()} == {
            '"By hash".t': (0, 1, 1),
            "public.below": (1, 0, 0),
        }
        run(copy.on("postgres"), f"drop database {copy.dbname} with (force)")
        assert place(folder, each_server.target, copy.dbname, only=("above",)).rows == 400
    finally:
        run(home, f"drop database if exists {copy.dbname} with (force)")


NOT_VALID = """
    create domain counted as int;
    create table t (id int, x counted, y int);
    insert into t select n, -n, -n from generate_series(1, 5000) n;
    alter domain counted add constraint positive check (value > 0) not valid;
    alter table t add constraint also check (y > 0) not valid;
    comment on constraint also on t is 'of the table';
"""


def test_constraints_that_rows_of_before_do_not_keep_hinder_no_restore(
    home: Target, each_server: Server, tmp_path: Path
) -> None:
    """Of a domain `pg_restore` makes them beside the rows."""
    run(home, NOT_VALID)
    folder, copy = snap(home, each_server, tmp_path / "snapshots"), home.on(f"{home.dbname}_copy")
    assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 5000
    try:
        assert place(folder, each_server.target, copy.dbname).rows == 5000
        run(home, f"drop database {copy.dbname}")
        assert place(folder, each_server.target, copy.dbname, only=("t",)).rows == 5000
    finally:
        run(home, f"drop database if exists {copy.dbname}")
