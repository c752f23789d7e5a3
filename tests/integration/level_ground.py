"""A twin that is kept level, for its tests: an awkward schema that others write to, the seed and the feed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from postgres_servers import drop_database
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.pouring import pour
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import quiet
from safepoint.wayback.names import feed_name
from safepoint.wayback.twin import feed, level
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import TwinFacts

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


@contextmanager
def followed(database: Target) -> Iterator[Target]:
    """A database of this schema; its feed and its twin go with it."""
    with connect(database) as connection:
        connection.execute(SCHEMA)
    try:
        yield database
    finally:
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
