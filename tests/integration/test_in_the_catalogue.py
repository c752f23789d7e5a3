"""What somebody made in PostgreSQL's own schemas: no dump has it, so it hinders no proof, and is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import Servers

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.proof import prove
from safepoint.postgres.target import Target

MADE = """
    create function pg_catalog.zz_act(int, text) returns int language sql immutable as 'select 1';
    create operator pg_catalog.=== (leftarg = int, rightarg = text, function = zz_act);
    create type pg_catalog.zz_mood as enum ('ok');
    create text search configuration pg_catalog.zz_words (copy = english);
    create text search dictionary pg_catalog.zz_few (template = simple);
    create conversion pg_catalog.zz_odd for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
    create operator family pg_catalog.zz_family using btree;
    create table t (a int, b int);
    create statistics pg_catalog.zz_two on a, b from t;
    create table information_schema.zz_kept as select 1 as one;
    alter operator family integer_ops using btree add function 1 (int4, text) zz_act(int, text);
"""
TOLD = (
    "function pg_catalog.zz_act(integer,pg_catalog.text)",
    "operator pg_catalog.===(integer,pg_catalog.text)",
    "type pg_catalog.zz_mood",
    "text search configuration pg_catalog.zz_words",
    "text search dictionary pg_catalog.zz_few",
    "conversion pg_catalog.zz_odd",
    "operator family pg_catalog.zz_family USING btree",
    "statistics object pg_catalog.zz_two",
    "table information_schema.zz_kept",
    "function 1 (integer, pg_catalog.text) of pg_catalog.integer_ops USING btree",
)


@pytest.fixture
def dba(database: Target) -> Iterator[str]:
    """A superuser who owns nothing else."""
    run(database, "create role catalogue_dba superuser")
    try:
        yield "catalogue_dba"
    finally:
        run(database, "drop owned by catalogue_dba cascade", "drop role catalogue_dba")


def test_a_database_with_collations_that_came_later_is_proven(
    database: Target, dba: str, servers: Servers, tmp_path: Path
) -> None:
    # As pg_import_system_collations makes them for locales that were installed after initdb.
    run(database, f"set role {dba}; create collation pg_catalog.late (locale = 'C')")
    folder = snap(database, servers(17), tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()


def test_what_stands_in_postgresql_s_own_schemas_hinders_no_proof_and_is_told(
    database: Target, dba: str, servers: Servers, tmp_path: Path
) -> None:
    run(database, f"set role {dba}; {MADE}; alter table t owner to postgres")
    folder = snap(database, servers(17), tmp_path / "snapshots")
    (told,) = prove(folder, scratch_parent=tmp_path / "scratch").notes
    assert [name for name in TOLD if name not in told] == []


def test_what_stands_elsewhere_is_compared_as_before(database: Target) -> None:
    before = take(database)
    run(database, "create collation late (locale = 'C')")
    assert [one.name for one in compare(before, take(database))] == ["collation public.late"] * 2


def test_a_database_in_which_numbers_and_times_become_text_by_themselves_is_proven(
    database: Target, servers: Servers, tmp_path: Path
) -> None:
    # As they are made for applications that were written for PostgreSQL 8.2; `'a' || 1` has no single meaning then.
    kinds = ("int2", "int4", "int8", "oid", "numeric", "float8", "date", "timestamptz")
    run(database, *(f"create cast ({kind} as text) with inout as implicit" for kind in kinds))
    run(database, "create role casts_app connection limit 7 valid until '2099-01-01'", "create table t (a int, b text)")
    run(database, "grant select on t to casts_app", "alter table t alter b set statistics 77")
    run(database, "create statistics two on a, b from t", "alter statistics two set statistics 9")
    try:
        folder = snap(database, servers(17), tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    finally:
        run(database, "drop owned by casts_app", "drop role casts_app")


def test_a_cast_to_text_that_says_less_than_the_value_hides_no_difference(database: Target) -> None:
    run(
        database,
        "create table t (amount numeric, raw bytea)",
        "insert into t values (1.10, 'a')",
        "create function rounded(numeric) returns text language sql immutable as 'select round($1)::int4::text'",
        "create function shown(bytea) returns text language sql immutable as $$ select 'bytes' $$",
        "create cast (numeric as text) with function rounded(numeric)",
        "create cast (bytea as text) with function shown(bytea)",
    )
    before = take(database)
    run(database, "update t set amount = 1.2")
    one = take(database)
    run(database, "update t set raw = 'b'")
    found = [[(each.kind, each.name) for each in compare(*pair)] for pair in ((before, one), (one, take(database)))]
    assert found == [[("table", "public.t")]] * 2
