"""Definitions: what means the same is the same however it was written, and what means something else is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from awkward import run, snap

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.prints import Fingerprint
from safepoint.backup.proof import restored
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

TABLE, _, EXPRESSIONS = (
    (Path(__file__).parent / "expressions.sql").read_text(encoding="utf-8").partition("-- conditions\n")
)


CONDITIONS, QUERIES = (part.splitlines() for part in EXPRESSIONS.split("-- queries\n"))


# What its maker's session wrote in its own way: with another path, another order of dates, another schema of that name.
DEFINED = """
    create schema shop; create type shop.mood as enum ('ok', 'sad');
    set search_path = shop, public; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard';
    create domain shop.felt as mood default 'ok'::mood;
    create domain shop.day as date default date '31.12.2026';
    create domain shop.span as interval default interval '1-2';
    create function shop.now_here() returns int language sql as 'select 1';
    create domain shop.counted as int default now_here();
    reset search_path;
    create table t (gone int, a int, b text, c int, "Odd name" int);
    alter table t drop column gone;
    create publication some_columns for table t (c, a, "Odd name") where (a > 1);
    create schema other;
    create table other.t (a int, b int);
    create statistics public.twice (dependencies) on a, c from public.t;
    create statistics other.twice (ndistinct) on a, b from other.t;
"""


def test_definitions_that_were_written_in_another_session_s_way_are_the_same(
    home: Target, proven: Callable[[Target], None]
) -> None:
    run(home, DEFINED)
    now = take(home)
    assert {"public.twice", "other.twice"} <= set(now.structure["statistics"])
    assert '("Odd name", a, c)' in now.structure["publication"]["some_columns"]
    proven(home)


def of_expressions(target: Target) -> None:
    """Definitions of most kinds that have each of the expressions in them."""
    run(target, TABLE, "create table made (like thing)")
    with connect(target) as connection:
        for n, text in enumerate(CONDITIONS):
            connection.execute(f"alter table thing add constraint c{n} check ({text})".encode())
            connection.execute(f"create policy p{n} on thing using ({text}) with check ({text})".encode())
            connection.execute(f"create view v{n} as select id, ({text}) as told from thing where {text}".encode())
            body = f"begin atomic select count(*) from thing where {text}; end"
            connection.execute(f"create function f{n}() returns bigint language sql {body}".encode())
            with suppress(psycopg.errors.InvalidObjectDefinition):  # it is not immutable
                connection.execute(f"create index i{n} on thing (n, ({text})) where {text}".encode())
                column = f"g{n} boolean generated always as ({text}) stored"
                connection.execute(f"alter table made add {column}".encode())
        for n, text in enumerate(QUERIES):
            connection.execute(f"create view q{n} as {text}".encode())
            connection.execute(f"create materialized view m{n} as {text}".encode())


def texts(found: Fingerprint) -> dict[tuple[str, str], str]:
    return {(kind, name): text for kind, entries in found.structure.items() for name, text in entries.items()}


def test_whatever_an_expression_is_written_as_after_a_restore_it_is_the_same(
    home: Target, each_server: Server, tmp_path: Path
) -> None:
    of_expressions(home)
    folder = snap(home, each_server, tmp_path / "snapshots")
    before = read_manifest(folder).fingerprint
    with restored(folder, scratch_parent=tmp_path / "scratch") as copy:
        after = take(copy.target)
    assert compare(before, after) == () and after.digest == before.digest
    changed = [key for key, text in texts(after).items() if texts(before)[key] != text]
    assert len(changed) > 50


# What was called equal for a long time, though it says something else.
OTHERWISE = {
    "grouping in a check": (
        "alter table thing add check ((n + big) * small > 0)",
        "alter table thing drop constraint thing_check, add check (n + big * small > 0)",
    ),
    "grouping in a body": (
        "create function f(a int, b int, c int) returns int language sql as 'select (a + b) * c'",
        "create or replace function f(a int, b int, c int) returns int language sql as 'select a + b * c'",
    ),
    "a cast in a body": (
        "create function f(a int) returns text language sql as $$ select a::int::text $$",
        "create or replace function f(a int) returns text language sql as $$ select a::text $$",
    ),
    "a cast in a view": (
        "create view told as select n::bigint as x from thing",
        "drop view told; create view told as select n::int as x from thing",
    ),
    "what a policy negates": (
        "create policy few on thing using (not (flag or n = 1))",
        "alter policy few on thing using (not flag or n = 1)",
    ),
    "the blanks of a comment": ("comment on table thing is 'a  (b)'", "comment on table thing is 'a b'"),
    "the length of a cast": (
        "create index told on thing ((amount::numeric(9, 1)))",
        "drop index told; create index told on thing ((amount::numeric(9, 2)))",
    ),
}


@pytest.mark.parametrize("what", OTHERWISE, ids=lambda what: what.replace(" ", "-"))
def test_what_means_something_else_is_told(database: Target, what: str) -> None:
    first, then = OTHERWISE[what]
    run(database, TABLE, first)
    before = take(database)
    run(database, then)
    after = take(database)
    assert len(compare(before, after)) == 1 and before.digest != after.digest
