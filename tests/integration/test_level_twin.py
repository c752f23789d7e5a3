"""The twin that is kept level: seeded at one instant, followed while others write, equal at the safe point."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from postgres_servers import drop_database, has_postgres
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.pouring import pour
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.errors import DatabaseError, SafepointError
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback import choice, feed, level, quiet
from safepoint.wayback.manner import NotWhole
from safepoint.wayback.names import feed_name
from safepoint.wayback.pair import Pair
from safepoint.wayback.twin import TwinFacts, drop_twin, look_up, make_twin

LAUNCH = "shop-2.0"
SCHEMA = """
create table item (id int generated always as identity primary key, name text unique, body text,
                   twice int generated always as (length(name) * 2) stored);
alter table item alter body set storage external;
create table line (id bigserial primary key, item_id int references item on delete cascade, amount numeric(9, 2));
create table part (id int, year int, what text, primary key (id, year)) partition by range (year);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20);
create sequence loose;
create table base (id int primary key, what text);
create table heir (extra text, primary key (id)) inherits (base);
alter table base add late int default 1;  -- a dump writes the heir's columns in another order
create rule tell as on insert to base do also insert into line (amount) values (new.id % 100);
alter table base enable always rule tell;
create rule keep as on delete to heir where old.id % 4 = 0 do instead nothing;
insert into base select n, 'b' from generate_series(1, 12) n;
insert into heir select n, 'h', 'e', n from generate_series(1, 12) n;
insert into item (name, body) select 'i' || n, repeat('b' || n, 1000) from generate_series(1, 20) n;
insert into line (item_id, amount) select n, n from generate_series(1, 20) n;
insert into part select n, n, 'p' from generate_series(1, 19) n;
"""
# Everything that is awkward in one transaction or another.
WRITES = (
    "insert into item (name, body) values (gen_random_uuid(), repeat('x', 3000))",
    "update item set name = name || 'y' where id = (select max(id) from item)",
    "update item set body = repeat(md5(random()::text), 80) where id % 7 = 1",
    "insert into line (item_id, amount) select id, random() * 9 from item order by id desc limit 3",
    "update line set amount = amount + 1 where id % 5 = 0",
    "delete from item where id = (select min(id) + 3 from item)",
    "update part set year = (year + 7) % 20 where id = 1 + (random() * 18)::int",
    "update part set id = id + 100, what = 'moved' where id = (select max(id) from part where id < 100)",
    "insert into base select max(id) + 1, 'b' from only base",
    "insert into heir (id, what, late, extra) select max(id) + 1, 'h', 5, 'new' from heir",
    "update base set what = what || '!' where id % 3 = 0",
    "update only base set id = id + 1000 where id = (select min(id) from only base)",
    "delete from base where id % 5 = 2",
    "select nextval('loose')",
)


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


@dataclass
class Made:
    """A seeded twin and its feed; `there` is the server that it is on, where that is another one."""

    live: Target
    folder: Path
    at: str
    safe_point: str = ""
    there: Target | None = None
    facts: TwinFacts | None = None

    @property
    def twin(self) -> str:
        return f"{self.live.dbname}_twin"

    @property
    def pair(self) -> Pair:
        return Pair(self.live, (self.there or self.live).on(self.twin), LAUNCH)

    def keeper(self) -> level.Keeper:
        facts = feed.standing(self.live, LAUNCH, self.at)
        assert facts is not None
        return level.Keeper(self.pair, facts, feed.spool_path(self.folder, self.at))

    def finish(self) -> None:
        """The safe point: nobody writes any more."""
        safe_point = self.safe_point = self.safe_point or quiet.safe_point(self.live)
        if not level.is_finished(self.pair, safe_point):
            with self.keeper() as keeper:
                keeper.level(up_to=safe_point)
                keeper.set_sequences()
        self.facts = level.finish(self.pair, at=safe_point, prior=None, began=time.monotonic())


def seed(live: Target, folder: Path, major: int = 17, there: Target | None = None) -> Made:
    with feed.opened(live, LAUNCH) as now:
        take_snapshot(
            live,
            Here("here", folder),
            installation=installation(major),
            folder=folder,
            snapshot_id="seed",
            launch_id=LAUNCH,
            at=Instant(now.lsn, now.snapshot),
        )
    made = Made(live, folder, now.lsn, there=there)
    pour(folder / "seed", level.begin(made.pair))
    level.seeded(made.pair, now.lsn)
    return made


@pytest.fixture
def live(database: Target) -> Iterator[Target]:
    with connect(database) as connection:
        connection.execute(SCHEMA)
    yield database
    feed.end(database, LAUNCH)
    drop_database(database.on(f"{database.dbname}_twin"))


@contextmanager
def writing(live: Target) -> Iterator[None]:
    """Others write all the time; what fails against another's row fails."""
    done = threading.Event()

    def loop(number: int) -> None:
        with psycopg.connect(**live.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
            while not done.is_set():
                for statement in WRITES[number::2]:
                    try:
                        connection.execute(statement)  # type: ignore[call-overload]
                    except psycopg.IntegrityError:
                        continue
                    except psycopg.errors.DeadlockDetected:
                        continue
                    done.wait(0.01)

    threads = [threading.Thread(target=loop, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(20)


def differences(live: Target, twin: str) -> list[str]:
    with connect(live.on("postgres")) as connection:
        connection.execute(sql.SQL("alter database {} allow_connections true").format(sql.Identifier(twin)))
    found = fingerprint.compare(fingerprint.take(live), fingerprint.take(live.on(twin)))
    # The feed stands on the live database until the migration begins; the twin has nothing of it.
    return [str(one) for one in found if feed_name(LAUNCH) not in one.name]


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


@pytest.mark.parametrize("major", [15, 17, 18])
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


@pytest.mark.parametrize(
    "timeout", ["idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"]
)
def test_the_seeds_snapshot_lives_as_long_as_it_is_needed_whatever_the_databases_timeouts_are(
    live: Target, timeout: str
) -> None:
    """A dump, and what is asked after it, take hours; nothing is said on the connection that exported the snapshot."""
    with connect(live) as connection:
        connection.execute(f"alter database {live.dbname} set {timeout} = '200ms'".encode())
    with feed.opened(live, LAUNCH) as now:
        time.sleep(0.6)
        with connect(live, autocommit=False) as connection:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute(f"set transaction snapshot '{now.snapshot}'".encode())
    feed.end(live, LAUNCH)


def test_an_open_transaction_holds_the_seed_up_and_it_gives_up_with_the_reason(live: Target) -> None:
    with psycopg.connect(**live.conninfo()) as busy:  # type: ignore[arg-type]
        busy.execute("insert into line (amount) values (1)")
        with pytest.raises(DatabaseError, match="transactions are open"), feed.opened(live, LAUNCH, timeout=0.5):
            pass
    assert feed.begins_at(live, LAUNCH) is None
    assert feed.end(live, LAUNCH) is False
    with connect(live) as connection:
        assert connection.execute("select count(*) from pg_publication").fetchone() == (0,)


def test_killed_again_and_again_while_it_follows_no_row_stands_twice_and_none_is_missing(
    live: Target, tmp_path: Path
) -> None:
    made = seed(live, tmp_path)
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from safepoint.postgres.target import Target
        from test_level_twin import Made
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


def test_a_half_made_seed_is_removed_and_somebody_elses_database_is_not(live: Target, tmp_path: Path) -> None:
    level.begin(Pair.beside(live, f"{live.dbname}_twin", LAUNCH))
    made = seed(live, tmp_path)  # over what a kill left
    assert level.seeded_at(made.pair) == made.at
    assert drop_twin(live, made.twin, LAUNCH) is True
    with connect(live.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(made.twin)))
    with pytest.raises(SafepointError, match="not a twin of this launch"):
        level.begin(made.pair)


def test_what_is_measured_is_what_stands_in_the_way(live: Target) -> None:
    with connect(live) as connection:
        assert choice.choose(choice.measure(connection), "logical", 0).kind == "logical"
        connection.execute("create table bare (n int)")
        connection.execute("insert into bare values (1)")
        facts = choice.measure(connection)
        assert facts.keyless == ("public.bare",) and 8192 <= facts.keyless_bytes < 100_000 and facts.unnamed == ()
        connection.execute("create unlogged table fast (n int primary key)")
        connection.execute("create materialized view seen as select count(*) from item")
        connection.execute("create table hollow ()")
        connection.execute("select lo_create(0)")
        found = choice.choose(choice.measure(connection), "logical", 0)
        connection.execute("select lo_unlink(oid) from pg_largeobject_metadata")
    assert found.kind == "template"
    text = "; ".join(found.against)
    for said in ("public.fast", "1 large objects", "public.seen", "public.hollow"):
        assert said in text


def test_where_replication_connections_are_used_up_the_twin_is_copied_and_the_reason_said(
    server: Server, tmp_path: Path
) -> None:
    settings = {"wal_level": "logical", "max_wal_senders": "1", "fsync": "off", "shared_buffers": "32MB"}
    with Server.create(tmp_path / "pg", server.installation, settings=settings) as busy:
        with psycopg.connect(**busy.target.conninfo(), replication="database", autocommit=True):  # type: ignore[arg-type]
            with connect(busy.target) as connection:
                found = choice.choose(choice.measure(connection), "logical", 0)
            assert found.kind == "template" and "max_wal_senders" in "; ".join(found.against)
            with pytest.raises(DatabaseError, match="max_wal_senders") as caught, feed.opened(busy.target, LAUNCH):
                pytest.fail("there was no connection for it")
            assert "end one" in str(caught.value.remedy)
        with feed.opened(busy.target, LAUNCH):
            pass
        feed.end(busy.target, LAUNCH)


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
