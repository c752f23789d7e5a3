"""A column of each kind of type that PostgreSQL brings: proven through dump and restore, and no change of it unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from awkward import run, snap
from postgres_servers import Servers, has_postgres

from safepoint.backup.contents import Part, combine, hash_query, reading
from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.rows import read_columns
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# The type, a value, and the nearest other one.
VALUES = {
    "smallint": ("1", "2"),
    "integer": ("1", "2"),
    "bigint": ("9007199254740993", "9007199254740992"),
    "numeric": ("1.0", "1.00"),
    "numeric(30, 10)": ("12345678901234567890.0000000001", "12345678901234567890.0000000002"),
    "real": ("0.1", "0.100000009"),
    "double precision": ("0.1", "0.10000000000000002"),
    "money": ("1.00", "1.01"),
    "boolean": ("t", "f"),
    "text": ("é", "e\u0301"),
    "varchar(9)": ("a ", "a"),
    "char(3)": ("a", "b"),
    '"char"': ("a", "b"),
    "name": ("a", "A"),
    "citext": ("a", "A"),
    "hstore": ("a=>1", "a=>NULL"),
    "bytea": ("\\x00", "\\x0000"),
    "date": ("infinity", "-infinity"),
    "time": ("10:00:00", "10:00:00.000001"),
    "timetz": ("10:00:00+01", "09:00:00+00"),
    "timestamp": ("2026-10-25 02:30:00", "2026-10-25 02:30:00.000001"),
    "timestamptz": ("2026-10-25 00:30:00Z", "2026-10-25 01:30:00Z"),
    "interval": ("1 mon", "30 days"),
    "uuid": ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"),
    "inet": ("10.0.0.1/8", "10.0.0.1"),
    "cidr": ("10.0.0.0/8", "10.0.0.0/9"),
    "macaddr": ("08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    "macaddr8": ("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    "bit(3)": ("101", "100"),
    "bit varying": ("01", "1"),
    "json": ('{"a":1}', '{"a": 1}'),
    "jsonb": ('{"a": 1.0}', '{"a": 1.00}'),
    "jsonpath": ("$.a", "$.b"),
    "xml": ("<a/>", "<a></a>"),
    "tsvector": ("'x':1A", "'x':1"),
    "tsquery": ("'a' & 'b'", "'a' | 'b'"),
    "point": ("(0,0)", "(-0,0)"),
    "line": ("{1,2,3}", "{1,2,4}"),
    "lseg": ("[(0,0),(1,1)]", "[(1,1),(0,0)]"),
    "box": ("(1,1),(0,0)", "(1,1),(0,-1)"),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1))", "((1,1),(0,0))"),
    "circle": ("<(0,0),1>", "<(0,0),2>"),
    "int4range": ("[1,3)", "empty"),
    "numrange": ("[1,2]", "[1,2)"),
    "tstzrange": ("[2026-01-01Z,)", "(2026-01-01Z,)"),
    "int4multirange": ("{[1,3)}", "{[1,2)}"),
    "pg_lsn": ("0/1", "0/2"),
    "xid8": ("1", "2"),
    "pg_snapshot": ("10:20:10,14", "10:20:10,15"),
    "int[]": ("[0:1]={1,2}", "{1,2}"),
    "text[]": ("{NULL}", '{"NULL"}'),
    "int[][]": ("{{1,2}}", "{1,2}"),
    "mood": ("good", "bad"),
    "mood[]": ("{good}", "{good,good}"),
    "positive": ("1", "2"),
    "pair": ("(1,)", '(1,"")'),
    "pair[]": ('{"(1,a)"}', '{"(1,b)"}'),
    "nested": ('("(1,a)",{1})', '("(1,a)",{2})'),
    "span": ("[1.0,2)", "[1.00,2)"),
    "spans": ("{[1,2)}", "{[1,2.0)}"),
}
WRAPPERS = ("postgres_fdw", pytest.param("file_fdw", marks=pytest.mark.slow))
VERSIONS = (pytest.param(17, id="pg17"), pytest.param(18, id="pg18", marks=pytest.mark.slow))
MADE = """
    create extension citext; create extension hstore;
    create type mood as enum ('good', 'bad');
    create domain positive as int check (value > 0);
    create type pair as (a int, b text);
    create type nested as (p pair, many int[]);
    create type span as range (subtype = numeric, multirange_type_name = spans);
"""


def contents(target: Target) -> TablePrint:
    """The table, as a fingerprint takes it."""
    with reading(target) as connection:
        columns = read_columns(connection, "public.t")
        return combine(connection.execute(hash_query(Part("public", "t", "public.t", 1, columns))).fetchall())


def knows_xml(target: Target) -> bool:
    """Not every build of PostgreSQL can read it."""
    with connect(target) as connection:
        try:
            connection.execute("select '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return False
    return True


@pytest.mark.parametrize("version", VERSIONS)
def test_a_column_of_each_type_is_proven_and_each_change_of_a_value_is_told(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path, version: int
) -> None:
    server = servers(version)
    target = new_database(server)
    values = {kind: both for kind, both in VALUES.items() if kind != "xml" or knows_xml(target)}
    names = [f"c{number}" for number in range(len(values))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, values, strict=True))
    holes = ", ".join(f"%s::{kind}" for kind in values)
    run(target, MADE, f"create table t (id int, {columns})")
    with connect(target) as connection:
        for number in (1, 2):
            words = f"insert into t values ({number}, {holes})"
            connection.execute(words.encode(), [first for first, _ in values.values()])
        connection.execute("insert into t (id) values (3)")
        snapshot = snap(target, server, tmp_path / "snapshots")
        assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows == 3
        before = read_manifest(snapshot).fingerprint
        assert compare(before, take(target)) == ()
        unseen, whole = [], contents(target)
        for name, (kind, (_first, other)) in zip(names, values.items(), strict=True):
            connection.execute(f"update t set {name} = %s::{kind} where id = 1".encode(), [other])
            unseen += [kind] if contents(target) == whole else []
            connection.execute(f"update t set {name} = (select {name} from t where id = 2) where id = 1".encode())
        assert unseen == []
        assert contents(target) == whole


@pytest.mark.parametrize("what", WRAPPERS)
def test_foreign_tables_are_proven_by_their_definition_and_never_read(
    database: Target, server: Server, tmp_path: Path, what: str
) -> None:
    """Their rows are elsewhere, and reading them would fail: nobody is there."""
    run(
        database,
        f"create extension {what}",
        f"create server far foreign data wrapper {what}"
        + (" options (host '127.0.0.1', port '9')" if what == "postgres_fdw" else ""),
        "create foreign table there (a int, b text) server far"
        + (" options (filename '/nowhere')" if what == "file_fdw" else ""),
        "create table here as select 1 as a",
        "create view both_of as select a from here union all select a from there",
    )
    snapshot = snap(database, server, tmp_path / "snapshots")
    proof = prove(snapshot, scratch_parent=tmp_path / "scratch")
    assert (proof.rows, proof.notes) == (1, ())
    before = read_manifest(snapshot).fingerprint
    run(database, "alter foreign table there alter b type varchar(9)")
    assert {one.kind for one in compare(before, take(database))} == {"relation"}


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15, which is built with ICU, is not installed")
def test_collations_of_ones_own_are_proven_whatever_version_the_library_has(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path
) -> None:
    database = new_database(servers(15))
    run(
        database,
        "create collation german (provider = icu, locale = 'de-u-kn-true')",
        "create collation nobody_minds (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        'create table t (a text collate german primary key, b text collate nobody_minds, c text collate "C")',
        "insert into t select 'Ä' || n, case n % 2 when 0 then 'x' else 'X' end, n from generate_series(1, 30) n",
        "create unique index on t (a collate nobody_minds, c)",
        # As it stands after the system's library was renewed: https://www.postgresql.org/docs/current/sql-altercollation.html
        "update pg_collation set collversion = '1.2.3' where collname = 'german'",
    )
    snapshot = snap(database, servers(15), tmp_path / "snapshots")
    assert prove(snapshot, scratch_parent=tmp_path / "scratch").rows == 30
