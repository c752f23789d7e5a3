"""The twin that is kept level: seeded at one instant, followed while others write, equal at the safe point."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from level_ground import LAUNCH, SCHEMA, WRITES, differences, followed, seed, writing
from postgres_servers import drop_database, has_postgres
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.errors import SafepointError
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence import quiet
from safepoint.wayback.names import feed_name
from safepoint.wayback.replay.manner import NotWhole
from safepoint.wayback.twin import choice, feed, level
from safepoint.wayback.twin.twin import look_up, make_twin

# Rows that only all of their values tell apart; what differs here differs for COPY, and for few operators.
KEYLESS = """
create table bare (n numeric, f float8, c bpchar, b text, j json, a int[],
                   twice numeric generated always as (n * 2) stored);
alter table bare alter b set storage external;
create table named (id int not null unique, what text);
create table spread (year int, what text) partition by range (year);
create table spread_1 partition of spread for values from (0) to (10);
create table spread_2 (what text, year int);
alter table spread attach partition spread_2 for values from (10) to (20);
create table leafy (id int, what text) partition by range (id);
create table leafy_1 partition of leafy for values from (0) to (1000);
alter table leafy_1 add primary key (id);  -- its root has none
insert into leafy select n, 'l' from generate_series(1, 19) n;
"""
OF_LEAVES = (
    "update leafy set what = what || '!' where id % 4 = 0",
    "update leafy set id = (select max(id) + 1 from leafy) where id = (select min(id) from leafy)",
    "delete from leafy where id = (select min(id) from leafy)",
)
NUMBERS = ("1", "1.0", "1.00", "null", "'NaN'")
FLOATS = ("0", "'-0'", "null", "0.1::float8 + 0.2")
BLANKS = ("'a'", "'a '", "''", "' '", "null")
LARGE = ("null", "''", "repeat('x', 5000)", "repeat('y', 5000)")
DOCUMENTS = ("'{}'", "'{ }'", "null")
LISTS = ("'{}'", "'[2:3]={1,2}'", "'{1,2}'", "'{1,null}'", "null")


def keyless(chance: random.Random) -> str:
    """One write, mostly of rows that stand there several times."""
    value = chance.choice
    n, f, c, b, j, a = map(value, (NUMBERS, FLOATS, BLANKS, LARGE, DOCUMENTS, LISTS))
    some = f"ctid in (select ctid from bare order by random() limit {chance.randint(1, 3)})"
    part = "(tableoid, ctid) in (select tableoid, ctid from spread order by random() limit 1)"
    year, few = chance.randint(0, 19), chance.randint(1, 4)
    return value(
        [
            f"insert into bare select {n}, {f}, {c}, {b}, {j}, {a} from generate_series(1, {few})",
            f"insert into bare select {n}, {f}, {c}, {b}, {j}, {a} from generate_series(1, {few})",
            "insert into bare (n, f, c, b, j, a) select n, f, c, b, j, a from bare order by random() limit 4",
            f"update bare set {value([f'n = {n}', f'f = {f}', f'c = {c}', f'b = {b}', f'j = {j}'])} where {some}",
            f"update bare set a = {a} where {some}",  # the large value is left alone
            f"delete from bare where {some}",
            f"delete from bare where c is not distinct from {c} and {some}",
            f"insert into spread select {year}, 'p' from generate_series(1, {few})",
            f"update spread set year = {year} where {part}",
            f"delete from spread where {part}",
            f"insert into named values ({year}, {c}) on conflict (id) do update set what = excluded.what",
            f"update named set id = (select max(id) + 1 from named) where id = {year}",
            value(["truncate bare", "truncate spread", "truncate spread_2", "truncate bare, named", *["select 1"] * 8]),
        ]
    )


@pytest.fixture
def live(database: Target) -> Iterator[Target]:
    with followed(database) as made:
        yield made


def test_a_twin_followed_under_writes_is_equal_at_an_instant_and_whole_at_the_safe_point(
    live: Target, tmp_path: Path
) -> None:
    with writing(live):
        made = seed(live, tmp_path)
        with made.keeper() as keeper:
            for _ in range(4):
                keeper.level()
                time.sleep(0.1)
            with feed.instant(live, LAUNCH) as now:
                keeper.level_at(now)
                print_ = fingerprint.take(live, snapshot=now.snapshot)
        with level.open_to_us(made.pair):
            ours = fingerprint.take(live.on(made.twin))
        assert {name: one for name, one in ours.tables.items() if not name.startswith("safepoint.")} == print_.tables
        with made.keeper() as keeper:
            keeper.level()
    made.finish()
    made.finish()  # after a kill it is found finished
    assert differences(live, made.twin) == []
    with connect(live.on("postgres")) as connection:
        twin = look_up(connection, made.twin)
    assert twin is not None and twin.mark is not None and twin.mark.role == "twin"


@pytest.mark.parametrize("major", [15, 18])
def test_rows_that_no_key_tells_apart_are_kept_level_exactly_on_each_version(
    major: int, servers: Callable[[int], Server], new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    if not has_postgres(major):
        pytest.skip(f"no PostgreSQL {major} on this machine")
    live = new_database(servers(major))
    with connect(live) as connection:
        connection.execute(SCHEMA + KEYLESS)  # type: ignore[call-overload]
        for _ in range(30):
            connection.execute(keyless(random.Random(_)))  # type: ignore[call-overload]
        before = fingerprint.definitions(live)
        assert choice.choose(choice.measure(connection), "logical", 0).kind == "logical"
        made = seed(live, tmp_path, major)
        try:
            chance = random.Random(major)
            with made.keeper() as keeper:
                for _ in range(12):
                    with connection.transaction():
                        for _ in range(chance.randint(1, 25)):
                            connection.execute(keyless(chance))  # type: ignore[call-overload]
                    for statement in (*chance.sample(WRITES, 3), *OF_LEAVES):
                        connection.execute(statement)  # type: ignore[call-overload]
                    if chance.random() < 0.6:
                        keeper.level()
                connection.execute("insert into bare (n) values (1), (1); insert into spread values (3, 'last')")
            made.finish()
        finally:
            feed.end(live, LAUNCH)
        assert fingerprint.compare(before, fingerprint.definitions(live)) == ()  # replica identities are put back
        rows = connection.execute("select (select count(*) from bare), (select count(*) from spread)").fetchone()
        assert rows is not None and all(rows)
        assert differences(live, made.twin) == []
    drop_database(live.on(made.twin))


def test_types_are_found_where_the_databases_search_path_leads_to_them(live: Target, tmp_path: Path) -> None:
    """The twin gets the setting with all others at the end; until then names mean the same in our own sessions."""
    with connect(live) as connection:
        connection.execute("create schema app; create type app.mood as enum ('sad', 'ok')")
        connection.execute("create table app.felt (id int primary key, m app.mood, all_of app.mood[])")
        connection.execute("create table app.noted (m app.mood)")
        connection.execute(
            sql.SQL("alter database {} set search_path = app, public").format(sql.Identifier(live.dbname))
        )
    made = seed(live, tmp_path)
    with made.keeper() as keeper, connect(live) as connection:
        connection.execute("insert into felt values (1, 'ok', '{sad,ok}'), (2, 'sad', null)")
        connection.execute("insert into noted values ('ok'), ('sad')")
        assert keeper.level().applied == 2
        connection.execute("update felt set m = 'ok' where id = 2; delete from noted where m = 'sad'")
        assert keeper.level().applied == 1
    made.finish()
    feed.end(live, LAUNCH)  # the table without a key gets its identity back
    assert differences(live, made.twin) == []


def test_a_lost_slot_ddl_and_an_unknown_table_are_told_and_change_nothing(live: Target, tmp_path: Path) -> None:
    made = seed(live, tmp_path)
    with connect(live) as connection:
        connection.execute("create table later (id int primary key)")
        connection.execute("insert into later values (1)")
    with made.keeper() as keeper, pytest.raises(NotWhole, match=r"public\.later"):
        keeper.level()
    with connect(live) as connection:
        connection.execute("drop table later")
        connection.execute("insert into line (amount) values (1)")
        connection.execute("alter table line add note text")
        connection.execute("insert into line (amount) values (2)")
    with pytest.raises(SafepointError), made.keeper() as keeper:
        keeper.level()
    with connect(live) as connection:
        connection.execute("select pg_drop_replication_slot(%s)", [feed_name(LAUNCH)])
    assert feed.standing(live, LAUNCH, made.at) is None
    assert feed.begins_at(live, LAUNCH) is None
    # What is left of it does not hinder the copy, which has nothing of the feed.
    facts = make_twin(live, made.twin, LAUNCH, at=quiet.safe_point(live))
    assert facts.kind == "template" and differences(live, made.twin) == []


def test_killed_again_and_again_while_it_follows_no_row_stands_twice_and_none_is_missing(
    live: Target, tmp_path: Path
) -> None:
    made = seed(live, tmp_path)
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from safepoint.postgres.target import Target
        from level_ground import Made
        made = Made(Target({live.host!r}, {live.port}, {live.dbname!r}, {live.user!r}, {live.password!r}),
                    Path({str(tmp_path)!r}), {made.at!r})
        while True:
            with made.keeper() as keeper:
                print("following", flush=True)
                while True:
                    keeper.level()
    """)
    with writing(live):
        for wait in (0.0, 0.07, 0.19, 0.33):
            following = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            assert following.stdout is not None and following.stdout.readline() == "following\n"
            time.sleep(wait)
            following.send_signal(signal.SIGKILL)
            following.wait(20)
    made.finish()
    assert differences(live, made.twin) == []


def test_a_spool_that_is_gone_after_it_was_applied_is_not_missed(live: Target, tmp_path: Path) -> None:
    made = seed(live, tmp_path)
    with connect(live) as connection:
        connection.execute("insert into line (amount) select n from generate_series(1, 50) n")
    with made.keeper() as keeper:
        keeper.level()
    for path in tmp_path.glob("twin-*.spool*"):
        path.unlink()
    with connect(live) as connection:
        connection.execute("insert into line (amount) values (51)")
    made.finish()
    assert differences(live, made.twin) == []
