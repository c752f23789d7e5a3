"""Where two databases differ is named: the table, the columns, the keys."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run
from psycopg import sql
from store_places import peak_megabytes

from safepoint.backup.explain import TableDifference, explain
from safepoint.backup.fingerprint import compare, take
from safepoint.errors import DatabaseError
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ROWS = 400
SHAPES = '''

    create type mood as enum ('good', 'bad', 'odd');
    create type pair as (a int, b text);
    create domain short as varchar(80);
    create schema "Odd ""one""";
    create table account (id int primary key, code text not null unique, name short, mood mood, owed numeric(12, 4),
        at timestamptz, tags text[], facts jsonb, raw bytea, active boolean, range int4range, duo pair);
    insert into account select n, 'c' || n, 'name ' || n, 'good', n * 1.0001, '2026-01-01', array['a', 'b'],
        '{"a": 1}', '\\x00ff', true, int4range(n, n + 5), row(n, 'x')::pair from generate_series(1, 400) n;
    create table "Odd ""one"""."the line" (entry int, "no." int, amount numeric, memo text, primary key (entry, "no."));
    insert into "Odd ""one"""."the line" select n / 4, n % 4, n, null from generate_series(1, 400) n;
    create table keyless (a int, b text, c float8, d date, e interval);
    insert into keyless select n, 'text ' || n, n / 3.0, date '2026-01-01' + n, n * interval '1 hour'
        from generate_series(1, 400) n;
    create table log (id bigint, at date, word text, unique (id, at)) partition by range (at);
    create table log_old partition of log for values from ('2025-01-01') to ('2026-01-01');
    create table log_new partition of log for values from ('2026-01-01') to ('2027-01-01');
    alter table log alter id set not null, alter at set not null;
    insert into log select n, date '2025-12-01' + n % 60, 'w' || n from generate_series(1, 400) n;
'''
# Another value of each type, from the one that is there.
OTHERS = {
    "int": "{c} + 100000",
    "text": "coalesce({c}, '') || 'x'",
    "mood": "case {c} when 'good' then 'bad'::mood else 'odd' end",
    "numeric": "{c} + 0.0100",
    "timestamptz": "{c} + interval '1 microsecond'",
    "text[]": "{c} || 'c'::text",
    "jsonb": "{c} || '{{\"a\": 2}}'",
    "bytea": "{c} || '\\x01'",
    "boolean": "not {c}",
    "int4range": "int4range(lower({c}), upper({c}) + 1)",
    "pair": "row(({c}).a + 1, ({c}).b)::pair",
    "float8": "{c} + 1e-9",
    "interval": "{c} + interval '1 second'",
    "null": "null",
}
COLUMNS = {
    "public.account": {
        "id": "int",
        "code": "text",
        "name": "text",
        "mood": "mood",
        "owed": "numeric",
        "at": "timestamptz",
        "tags": "text[]",
        "facts": "jsonb",
        "raw": "bytea",
        "active": "boolean",
        "range": "int4range",
        "duo": "pair",
    },
    '"Odd ""one"""."the line"': {"entry": "int", "no.": "int", "amount": "numeric", "memo": "text"},
    "public.keyless": {"b": "text", "c": "float8", "e": "interval", "d": "null"},
    "public.log": {"word": "text"},
}


@pytest.fixture
def twins(server: Server, new_database: Callable[[Server], Target]) -> Iterator[tuple[Target, Target]]:
    """Two databases with the same content."""
    original = new_database(server)
    run(original, SHAPES)
    copy = original.on(original.dbname + "_copy")
    run(server.target, f"create database {copy.dbname} template {original.dbname}")
    yield original, copy
    run(server.target, f"drop database {copy.dbname} with (force)")


def explained(original: Target, copy: Target, *, limit: int = 20) -> dict[str, TableDifference]:
    differences = compare(take(original), take(copy))
    found = explain(original, copy, [d.name for d in differences if d.kind == "table"], limit=limit)
    json.dumps([one.as_json() for one in found])
    return {one.table: one for one in found}


def test_200_random_changes_of_one_value_are_each_found_and_named(twins: tuple[Target, Target]) -> None:
    original, copy = twins
    chance = random.Random(20260301)
    made: set[tuple[str, str, str]] = set()
    rows: dict[str, list[int]] = {table: chance.sample(range(1, ROWS + 1), 90) for table in COLUMNS}
    with connect(copy) as connection:
        for _number in range(200):
            table = chance.choice([name for name in COLUMNS if rows[name]])
            column, kind = chance.choice(list(COLUMNS[table].items()))
            number = rows[table].pop()
            where = {
                "public.account": f"id = {number}",
                '"Odd ""one"""."the line"': f'entry = {number // 4} and "no." = {number % 4}',
                "public.keyless": f"a = {number}",
                "public.log": f"id = {number}",
            }[table]
            name = sql.Identifier(column).as_string()
            connection.execute(
                f"update {table} set {name} = {OTHERS[kind].format(c=name)} where {where}"  # type: ignore[arg-type]
            )
            made.add((table, column, str(number)))
    found = explained(original, copy, limit=1000)
    named = set()
    for table, difference in found.items():
        assert difference.complete
        assert (difference.missing, difference.added) == (0, 0)
        assert difference.changed == len(difference.examples)
        for example in difference.examples:
            (column,) = example.columns
            values = example.key.strip("()").split(",")
            key = str(int(values[0]) * 4 + int(values[1])) if "line" in table else values[0]
            named.add(("public.log" if "log" in table else table, column, key))
    assert len(made) == 200
    assert named == made


def test_rows_that_are_gone_and_rows_that_are_new_are_told_apart(twins: tuple[Target, Target]) -> None:
    original, copy = twins
    run(copy, "delete from account where id in (7, 8)", "insert into account (id, code) values (1000, 'new')")
    run(copy, "insert into keyless select * from keyless where a = 5")
    found = explained(original, copy)
    account = found["public.account"]
    assert (account.changed, account.missing, account.added) == (0, 2, 1)
    assert {(one.kind, one.key) for one in account.examples} == {
        ("missing", "(7)"),
        ("missing", "(8)"),
        ("added", "(1000)"),
    }
    assert (found["public.keyless"].added, found["public.keyless"].missing) == (1, 0)
    assert "added" in "\n".join(found["public.keyless"].lines())


def test_new_and_missing_columns_hide_no_change_of_the_others(twins: tuple[Target, Target]) -> None:
    original, copy = twins
    run(copy, "alter table account add column extra int default 5", "alter table account drop column raw")
    run(copy, "update account set owed = owed + 1 where id = 9")
    (difference,) = explained(original, copy).values()
    assert (difference.columns_added, difference.columns_missing) == (("extra",), ("raw",))
    assert [(one.key, one.columns) for one in difference.examples] == [("(9)", ("owed",))]


def test_where_nearly_everything_differs_it_says_so_and_names_some(twins: tuple[Target, Target]) -> None:
    original, copy = twins
    run(copy, "update account set owed = owed * 2, active = false")
    (difference,) = explained(original, copy, limit=3).values()
    assert difference.changed == ROWS
    assert len(difference.examples) == 3
    assert dict(difference.columns) == {"owed": 3, "active": 3}


def test_equal_tables_are_not_mentioned(twins: tuple[Target, Target]) -> None:
    assert explain(*twins, ["public.account", "public.keyless"]) == ()


def test_a_table_that_is_not_there_is_told(twins: tuple[Target, Target]) -> None:
    with pytest.raises(DatabaseError, match="not_there"):
        explain(*twins, ["public.not_there"])


def test_memory_and_answers_stay_small_where_a_big_table_differs_wholly(
    twins: tuple[Target, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = twins
    monkeypatch.setattr("safepoint.backup.explain._MOST_ROWS", 2000)
    for target, shift in ((original, 0), (copy, 1)):
        run(target, f"create table big as select n as id, n + {shift} as x from generate_series(1, 20000) n")
        run(target, "alter table big add primary key (id)", "analyze big")
    difference = explained(original, copy)["public.big"]
    assert not difference.complete
    assert 500 <= difference.changed <= 2500
    assert difference.lines()[0].startswith("table public.big: at least")


def test_a_table_that_differs_wholly_takes_little_memory(twins: tuple[Target, Target]) -> None:
    original, copy = twins
    for target, shift in ((original, 0), (copy, 1)):
        run(target, f"create table big as select n as id, n + {shift} as x from generate_series(1, 400000) n")
        run(target, "alter table big add primary key (id)", "analyze big")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_megabytes()
    (difference,) = explain(original, copy, ["public.big"])
    assert difference.changed > 40_000 and not difference.complete
    assert peak_megabytes() - before < 60


SECRETS = """
    create table django_session (session_key varchar(40) primary key, session_data text, expire_date int);
    create table device (owner int, token text, name text, primary key (owner, token));
    create table sent (who text, reset_token text, at int);
    insert into django_session select 'live-' || n, 'sealed-' || n, n from generate_series(1, 9) n;
    insert into device select n, 'live-' || n, 'phone' from generate_series(1, 9) n;
    insert into sent select 'anna', 'live-' || n, n from generate_series(1, 9) n;
"""


def test_values_of_columns_that_look_secret_are_never_told(server: Server, new_database: Callable[..., Target]) -> None:
    original, copy = new_database(server), new_database(server)
    for target in (original, copy):
        run(target, SECRETS)
    run(copy, "update django_session set expire_date = 0 where expire_date = 4", "update device set name = 'x'")
    run(copy, "delete from django_session where expire_date = 5", "insert into sent values ('bert', 'live-10', 1)")
    run(copy, "update sent set at = 70 where at = 7")
    found = explained(original, copy)
    told = json.dumps([one.as_json() for one in found.values()]) + "\n".join(
        line for one in found.values() for line in one.lines()
    )
    assert "live-" not in told and "sealed-" not in told
    session, device, sent = (found[f"public.{name}"] for name in ("django_session", "device", "sent"))
    assert "  changed session_key = ***: expire_date" in session.lines()
    assert (session.changed, session.missing) == (1, 1)
    assert sorted(one.key for one in device.examples)[:2] == ["(1,***)", "(2,***)"]
    assert {one.key for one in sent.examples} == {"(anna,***,7)", "(bert,***,1)"}


def test_virtual_columns_are_not_computed(
    servers: Callable[[int], Server], new_database: Callable[..., Target]
) -> None:
    original, copy = (new_database(servers(18)) for _ in range(2))
    for target in (original, copy):
        run(target, "create table t (a int primary key, b int, ratio int generated always as (a / b) virtual)")
        run(target, "insert into t values (1, 0), (2, 1)")
    run(copy, "update t set b = 3 where a = 2")
    assert explained(original, copy)["public.t"].lines()[1:] == ["  changed a = 2: b"]
