"""A shop's database with all that belongs to one beside its rows, and a snapshot of it, for the tests of restoring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from awkward import run
from plan_file import plan_file

from safepoint.backup.snapshot import take_snapshot
from safepoint.config import PlanFile
from safepoint.hosts.here import Here
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

SHOP = '''
    create schema sales; create schema "Odd ""one""";
    create type mood as enum ('good', 'bad');
    create table account (id int primary key generated always as identity, name text, mood mood);
    insert into account (name, mood) select 'a' || n, 'good' from generate_series(1, 300) n;
    create table sales.entry (id int primary key, account int references account, amount numeric default 1);
    insert into sales.entry select n, n, n * 1.10 from generate_series(1, 300) n;
    create table sales.line (id int primary key, entry int references sales.entry, d date) ;
    insert into sales.line select n, n, date '2026-01-01' + n from generate_series(1, 300) n;
    create table sales.log (id int, at date) partition by range (at);
    create table sales.log_2026 partition of sales.log for values from ('2026-01-01') to ('2027-01-01');
    insert into sales.log select n, '2026-02-03' from generate_series(1, 50) n;
    create table "Odd ""one"""."the table" (x int); insert into "Odd ""one"""."the table" values (1), (2);
    create view sales.totals as select account, sum(amount) from sales.entry group by account;
    create materialized view sales.kept as select count(*) from sales.entry;
    create index on sales.entry (amount);
    select lo_from_bytea(4711, 'a large object');
    grant select on account to shop_reader;
    grant usage on schema sales to shop_owner;
    alter table sales.entry owner to shop_owner;
    create publication shop_events for table account;
    comment on publication shop_events is 'made by the shop';
    create function watched() returns event_trigger language plpgsql as 'begin end';
    create event trigger shop_watch on ddl_command_end execute function watched();
    comment on event trigger shop_watch is 'it watches';
    comment on large object 4711 is 'a picture';
    grant select on large object 4711 to shop_reader;
'''
PROPERTIES = (
    "alter database {db} set work_mem to '9MB'",
    "alter role shop_reader in database {db} set statement_timeout to '7s'",
    "grant connect on database {db} to shop_reader",
    "alter database {db} connection limit 50",
    "comment on database {db} is 'it''s the shop'",
)


def ask(target: Target, query: str) -> list[tuple[object, ...]]:
    with connect(target) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


def names(target: Target) -> set[str]:
    return {str(row[0]) for row in ask(target.on("postgres"), "select datname from pg_database")}


@contextmanager
def snapped_shop(server: Server, folder: Path) -> Iterator[tuple[Target, Path]]:
    """The database `shop` on a server, and the folder of its snapshot; all that is named like it goes afterwards."""
    run(server.target, "create role shop_owner", "create role shop_reader login", "create database shop")
    target = server.target.on("shop")
    try:
        run(target, SHOP, *(line.format(db="shop") for line in PROPERTIES))
        take_snapshot(
            target,
            Here("here", folder),
            installation=server.installation,
            folder=folder,
            snapshot_id="shop-1",
            launch_id=None,
        )
        yield target, folder / "shop-1"
    finally:
        drop_all(target, names(target))
        run(server.target, "drop role shop_owner", "drop role shop_reader")


@contextmanager
def plan_of(target: Target, folder: Path) -> Iterator[PlanFile]:
    """The plan file of the shop; what is restored beside it meanwhile goes afterwards."""
    try:
        yield plan_file(folder, target)
    finally:
        drop_all(target, names(target) - {target.dbname})


def drop_all(target: Target, databases: set[str]) -> None:
    for name in databases:
        if name.startswith("shop"):
            run(target.on("postgres"), f'drop database "{name}" with (force)')
