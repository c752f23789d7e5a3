"""Fingerprints: exact about content, indifferent to the order of rows, the same for the same data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from awkward import run
from postgres_servers import Servers, has_postgres

from safepoint.backup.contents import Part, combine, hash_query, parts, reading
from safepoint.backup.fingerprint import compare, take
from safepoint.backup.prints import Fingerprint, TablePrint
from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import cancel, connect
from safepoint.postgres.rows import read_columns
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

AWKWARD = (Path(__file__).parent / "awkward.sql").read_text(encoding="utf-8")


def contents(target: Target, table: str = "public.t") -> TablePrint:
    """The print of one table, taken as a fingerprint takes it but for what else there is."""
    with reading(target) as connection:
        columns = read_columns(connection, table)
        return combine(connection.execute(hash_query(Part(*table.split("."), table, 1, columns))).fetchall())


# Each pair of VALUES lists for a table t(a text, b text) or as named: COPY writes them differently.
UNEQUAL = {
    "numeric scale": ("(a numeric)", "(1.0)", "(1.00)"),
    "negative zero": ("(a float8)", "('-0')", "('0')"),
    "last digit of a float": ("(a float8)", "(0.1)", "(0.1 + 1e-17 * 2)"),
    "null and empty": ("(a text)", "(null)", "('')"),
    "null in a row of one": ("(a text, b text)", "(null, 'x')", "('x', null)"),
    "word null": ("(a text)", "(null)", "('null')"),
    "array bounds": ("(a int[])", "('[0:1]={1,2}')", "('{1,2}')"),
    "null in an array": ("(a text[])", "('{NULL}')", "('{\"NULL\"}')"),
    "swapped columns": ("(a text, b text)", "('x', 'y')", "('y', 'x')"),
    "moved border": ("(a text, b text)", "('x,', 'y')", "('x', ',y')"),
    "values swapped between rows": ("(a int, b int)", "(1, 10), (2, 20)", "(1, 20), (2, 10)"),
    "a row twice": ("(a int)", "(1), (1), (2)", "(1), (2), (2)"),
    "two twins more": ("(a int)", "(3)", "(3), (1), (1)"),
    "json white space": ("(a json)", "('{\"a\":1}')", "('{\"a\": 1}')"),
    "json key order": ("(a json)", '(\'{"a":1,"b":2}\')', '(\'{"b":2,"a":1}\')'),
    "composed accents": ("(a text)", "(U&'\\00e9')", "(U&'e\\0301')"),
    "case": ("(a text)", "('A')", "('a')"),
    "char padding in text": ("(a text)", "('a ')", "('a')"),
    "microsecond": ("(a timestamptz)", "('2026-01-01 00:00:00.000001Z')", "('2026-01-01Z')"),
    "interval units": ("(a interval)", "('1 mon')", "('30 days')"),
    "infinity": ("(a timestamptz)", "('infinity')", "('-infinity')"),
    "bytes": ("(a bytea)", "('\\x00')", "('\\x0000')"),
    "nan": ("(a numeric)", "('nan')", "(0)"),
    "no columns": ("()", None, ""),
    "halves of a bigint": ("(a int8)", "(1)", "(4294967296)"),
    "a negative bigint": ("(a int8)", "(-1)", "(4294967295)"),
    "null and zero": ("(a int)", "(null)", "(0)"),
    "null and false": ("(a bool)", "(null)", "(false)"),
    "true and false": ("(a bool, b bool)", "(true, false)", "(false, true)"),
    "null and the nil uuid": ("(a uuid)", "(null)", f"('{'0' * 32}')"),
    "nulls in two integers": ("(a int, b int)", "(null, 0)", "(0, null)"),
    "nulls and zeros between rows": ("(a int, b int)", "(null, 1), (0, 2)", "(null, 2), (0, 1)"),
    "integers of an xor": ("(a int8, b int8)", "(5, 3)", "(3, 5)"),
    "microseconds that fold": (
        "(a timestamp)",
        "('2026-01-01 00:00:00')",
        "('2026-01-01 00:00:00'::timestamp + interval '4294.967297 s')",
    ),
    "infinities": ("(a numeric)", "('infinity')", "('nan')"),
    "signs": ("(a numeric(9, 2))", "('-1')", "('1')"),
    "padding": ("(a bpchar)", "('a ')", "('a')"),
    "null in an array of rows": ("(a pg_namespace[], b text)", "(array[null::pg_namespace], '')", "(null, '')"),
    "interval and its length": ("(a interval)", "('24:00:00')", "('1 day')"),
    "money": ("(a money)", "(1)", "(1.01)"),
    "bits": ("(a bit varying)", "('01')", "('1')"),
    "network": ("(a inet, b cidr)", "('10.0.0.0/8', '10.0.0.0/8')", "('10.0.0.0/9', '10.0.0.0/8')"),
    "words with a weight": ("(a tsvector)", "('x:1A')", "('x:1')"),
    "points": ("(a point)", "('0,0')", "('-0,0')"),
    "range bounds": ("(a numrange)", "('[1,2]')", "('[1,2)')"),
    "xml": ("(a xml)", "('<a/>')", "('<a></a>')"),
    "the 33rd column": (
        "(" + ", ".join(f"c{n} int" for n in range(40)) + ")",
        "(" + "0, " * 33 + "null, 0, 0, 0, 0, 0, 0)",
        "(" + "0, " * 34 + "null, 0, 0, 0, 0, 0)",
    ),
    "the 150th column": (
        "(" + ", ".join(f"c{n} int" for n in range(150)) + ")",
        "(" + "0, " * 149 + "1)",
        "(" + "0, " * 148 + "1, 0)",
    ),
}


@pytest.mark.parametrize("case", UNEQUAL, ids=lambda case: case.replace(" ", "-"))
def test_what_copy_writes_differently_is_different(database: Target, case: str) -> None:
    columns, one, other = UNEQUAL[case]
    run(database, f"create table t {columns}")
    found = []
    for rows in (one, other):
        run(database, "truncate t", f"insert into t values {rows}" if rows else "select")
        if rows == "":
            run(database, "insert into t default values")
        found.append(contents(database))
        with reading(database) as connection:  # values that are stored elsewhere are read another way: no matter
            part = Part("public", "t", "public.t", 1, read_columns(connection, "public.t"), wide=True)
            assert combine(connection.execute(hash_query(part)).fetchall()) == found[-1]
    assert found[0] != found[1]


def test_a_column_that_is_filled_by_declaration_is_hashed_as_one_that_happens_to_be(database: Target) -> None:
    columns = "a int, b text, c uuid, d bool, e numeric, f timestamptz, g int[], h date"
    values = f"(1, 'x', '{'1' * 32}', true, 1.0, '2026-01-01Z', '{{1}}', '2026-01-01')"
    filled = ", ".join(f"{column} not null" for column in columns.split(", "))
    run(database, f"create table t ({columns})", f"create table u ({filled})")
    run(database, f"insert into t values {values}", f"insert into u values {values}")
    assert contents(database) == contents(database, "public.u")


def test_a_null_below_a_not_null_that_is_not_valid_yet_is_counted(
    servers: Servers, new_database: Callable[..., Target]
) -> None:
    target = new_database(servers(18))
    run(target, "create table t (a int)", "insert into t values (1), (null)", "create table u as table t")
    run(target, "alter table t add constraint filled not null a not valid")
    assert contents(target) == contents(target, "public.u") and contents(target).rows == 2


def test_the_columns_of_a_tables_child_are_hashed_in_an_order_that_a_restore_keeps(database: Target) -> None:
    run(database, "create table t (a int)", "create table u (c int) inherits (t)", "alter table t add d int")
    run(database, "create table v (c int) inherits (t)")  # a, d, c: as a restore makes it; u has a, c, d
    for table in "uv":
        run(database, f"insert into {table} (a, c, d) values (1, 2, 3)")
    assert contents(database, "public.u") == contents(database, "public.v")
    relations = take(database).structure["relation"]
    assert relations["public.u"] == relations["public.v"]


@pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 is not installed")
def test_the_fingerprint_of_tables_is_the_same_in_all_versions(
    servers: Servers, new_database: Callable[..., Target]
) -> None:
    found = []
    for number, version in enumerate((15, 17, 18)):
        target = new_database(servers(version))
        for extra in range(number * 7):  # the ids of objects differ between servers, which must not matter
            run(target, f"create table extra{extra} ()")
        run(target, AWKWARD, "update plain set at = '2026-01-01', late = 'l'")
        found.append({name: one for name, one in take(target).tables.items() if "extra" not in name})
    assert found[0] == found[1] == found[2]


def test_what_was_hashed_by_an_older_format_is_compared_in_that_one(database: Target) -> None:
    run(database, "create table t as select n, 'x' from generate_series(1, 10) n")
    old = take(database, version=1)
    assert old == Fingerprint.from_json(old.as_json()) and old.format == 1
    assert compare(old, take(database, version=1)) == ()
    # As this very table was hashed before format 2 was made.
    assert old.tables["public.t"].content == "16a255c945c53c4f6339022ad96c8584"
    with pytest.raises(ValueError, match="formats 1 and 5"):
        compare(old, take(database))


def test_the_order_of_rows_does_not_matter(any_database: Target) -> None:
    run(any_database, "create table t as select n, md5(n::text) m from generate_series(1, 1000) n")
    before = contents(any_database)
    run(any_database, "create table u as table t order by m desc", "drop table t", "alter table u rename to t")
    assert contents(any_database) == before


def test_a_table_read_in_parts_has_the_same_hash_as_read_whole(database: Target) -> None:
    run(
        database,
        "create table t as select n, repeat('x', 500) x from generate_series(1, 2000) n",
        "delete from t where n % 7 = 0",
    )
    whole = contents(database)
    with reading(database) as connection:
        table = Part("public", "t", "t", 150, read_columns(connection, "public.t"))
        pieces = [replace(table, first=first, end=first + 50) for first in range(0, 100, 50)]
        pieces.append(replace(table, first=100))
        assert combine([row for piece in pieces for row in connection.execute(hash_query(piece))]) == whole


def test_big_tables_are_cut_into_parts_without_gaps() -> None:
    pieces = parts(Part("s", "t", "s.t", 10000))
    assert [(piece.first, piece.end) for piece in pieces] == [(0, 4096), (4096, 8192), (8192, None)]
    assert [(piece.first, piece.end) for piece in parts(Part("s", "t", "s.t", 4096))] == [(None, None)]


def test_the_same_awkward_data_gives_the_same_fingerprint(
    any_server: Server, new_database: Callable[[Server], Target]
) -> None:
    one, other = new_database(any_server), new_database(any_server)
    for target in (one, other):
        run(target, AWKWARD)
        run(target, "update plain set at = '2026-01-01', late = 'l'", "refresh materialized view totals")
    first, second = take(one), take(other)
    # Large objects get their numbers from the cluster, so they differ between two databases made alike.
    assert [d for d in compare(first, second) if d.kind != "large objects"] == []
    assert len(first.tables) == 8
    assert first.rows > 700


# What is changed, and the kind of difference that must be told.
CHANGES = {
    "one value": ("update plain set amount = amount + 1 where id = 7", "table"),
    "a row less": ("delete from plain where id = 7", "table"),
    "a row in a partition": ("insert into measured values ('2020-01-01', 1)", "table"),
    "a sequence": ("select nextval('odd_sequence')", "sequence"),
    "a sequence used": ("select nextval('unused_sequence')", "sequence"),
    "an extension": ("drop extension if exists plpgsql cascade", "extension"),
    "a grant": ("grant select on plain to pg_monitor", "owner and grants of"),
    "a grant on a column": ("grant update (name) on plain to pg_monitor", "owner and grants of"),
    "an owner": ("alter table plain owner to pg_monitor", "owner and grants of"),
    "a large object": ("select lo_put(oid, 0, 'F') from pg_largeobject_metadata limit 1", "large objects"),
    "a large object less": ("select lo_unlink(oid) from pg_largeobject_metadata limit 1", "large objects"),
    "an index": ("drop index plain_expression", "index"),
    "a check": ("alter table plain drop constraint plain_name_check", "constraint"),
    "a default": ("alter table plain alter late set default 'other'", "relation"),
    "not null": ("alter table plain alter name drop not null", "relation"),
    "column type": ("alter table child alter b type bigint", "relation"),
    "a view": ("create or replace view names as select name, 1::bigint as many from plain", "relation"),
    "a function": (
        "create or replace function double_it(x int) returns int language sql immutable as 'select x * 3'",
        "function",
    ),
    "a trigger": ("alter table plain disable trigger stamped", "trigger"),
    "a policy": ("alter policy only_ok on plain using (true)", "policy"),
    "an enum label": ("alter type mood add value 'new'", "type"),
    "a comment": ("comment on table plain is 'other'", "comment"),
    "an empty schema": ("create schema empty", "object"),
    "row security": ("alter table plain disable row level security", "relation"),
    "a database setting": ("alter database {db} set work_mem = '5MB'", "setting"),
    "a setting of a role here": ("alter role postgres in database {db} set work_mem = '5MB'", "setting"),
    "default privileges": (
        "alter default privileges in schema public revoke select on tables from public",
        "owner and grants of",
    ),
    "a database grant": ("revoke connect on database {db} from public", "owner and grants of"),
    "publication": ("alter publication everything set (publish = 'insert')", "publication"),
}


@pytest.fixture(scope="module")
def awkward(servers: Callable[[int], Server]) -> tuple[Server, str, Fingerprint]:
    server = servers(17)
    with connect(server.target) as connection:
        connection.execute("create database awkward_template")
    target = server.target.on("awkward_template")
    run(target, AWKWARD)
    return server, "awkward_template", take(target)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.replace(" ", "-"))
def test_every_change_is_told_by_its_kind(
    awkward: tuple[Server, str, Fingerprint], new_database: Callable[..., Target], change: str
) -> None:
    server, template, before = awkward
    name = f"changed_{list(CHANGES).index(change)}"
    with connect(server.target) as connection:
        connection.execute(f"create database {name} template {template}")  # type: ignore[call-overload]
    target = server.target.on(name)
    try:
        assert compare(before, take(target)) == ()
        statement, kind = CHANGES[change]
        run(target, statement.format(db=name))
        found = compare(before, take(target))
        assert kind in {difference.kind for difference in found}, found
        assert all(len(str(difference)) < 600 for difference in found)
    finally:
        with connect(server.target) as connection:
            connection.execute(f"drop database {name} with (force)")  # type: ignore[call-overload]


def test_a_fingerprint_survives_json(awkward: tuple[Server, str, Fingerprint]) -> None:
    import json

    printed = awkward[2]
    again = Fingerprint.from_json(json.loads(json.dumps(printed.as_json())))
    assert again.digest == printed.digest
    assert compare(printed, again) == ()


def test_a_login_that_may_not_read_a_table_is_told_so(database: Target) -> None:
    run(database, "create table t (a int)", "create role poor_reader login password 'p'")
    try:
        with pytest.raises(DatabaseError, match=r"public\.t"):
            take(database.login("poor_reader", "p"))
    finally:
        run(database, "drop role poor_reader")


def test_of_many_tables_only_those_being_read_are_locked(database: Target) -> None:
    run(database, *(f"create table t{n} (id bigint generated by default as identity primary key)" for n in range(40)))
    held = []
    query = """
        select count(*) from pg_locks l join pg_class c on c.oid = l.relation join pg_database d on d.oid = l.database
        where d.datname = current_database() and c.relkind in ('r', 'S') and c.oid >= 16384
    """
    with connect(database) as looking:
        take(database, jobs=2, report=lambda _: held.append(looking.execute(query).fetchall()[0][0]))
    assert len(held) == 40 and max(held) <= 2, held


def test_cancelling_ends_a_long_query_soon(database: Target) -> None:
    run(database, "create table t as select n, repeat(md5(n::text), 30) x from generate_series(1, 400000) n")
    began = time.monotonic()
    with pytest.raises(Interrupted):
        take(database, jobs=1, cancelled=lambda: time.monotonic() - began > 0.1)
    assert time.monotonic() - began < 5


def test_whoever_ends_the_others_does_not_stumble_over_one_that_is_gone(database: Target) -> None:
    """The reason is what its own statement was told; a cancellation that fails would stand before it."""
    with connect(database) as gone, connect(database) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [gone.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            gone.execute("select 1")
        cancel(gone)
