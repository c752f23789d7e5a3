"""What the log does not say while a twin is kept level: tables that are made anew, exchanged, or rewritten by an ALTER.

Their definitions are what they were, so that no comparison of these tells of it: without a look at how old they are the
twin had other rows than the live database at the safe point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from level_ground import LAUNCH, differences, seed
from postgres_servers import Servers, drop_database, has_postgres

from safepoint.backup import fingerprint
from safepoint.postgres.connections import connect
from safepoint.postgres.rewritten import rewritten
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence import quiet
from safepoint.wayback.names import feed_name
from safepoint.wayback.replay.manner import NotWhole
from safepoint.wayback.twin import feed

SCHEMA = """
create table report (n int, what text);
create table left_ (n int);
create table right_ (n int);
create table priced (id int primary key, amount numeric(9, 2), note text);
create table bulk (id int primary key);
create table part (id int, year int, primary key (id, year)) partition by range (year);
create table part_1 partition of part for values from (0) to (10);
create table still (id int primary key, what text);
create schema blue; create table blue.thing (n int); insert into blue.thing values (1);
create schema green; create table green.thing (n int); insert into green.thing values (2);
insert into report values (1, 'old'); insert into left_ values (1); insert into right_ values (2);
insert into priced values (1, 1.5); insert into part values (1, 1); insert into still values (1, 's');
"""
# What is done, and the tables whose rows the twin would not have as they are.
REMADE = {
    "begin; drop table report; create table report (n int, what text); insert into report values (2, 'x'); commit": (
        "public.report",
    ),
    "begin; drop table part_1; create table part_1 partition of part for values from (0) to (10); commit": (
        "public.part_1",
    ),
    "begin; alter table left_ rename to passing; alter table right_ rename to left_; "
    "alter table passing rename to right_; commit": ("public.left_", "public.right_"),
    "begin; alter schema blue rename to passing; alter schema green rename to blue; "
    "alter schema passing rename to green; commit": ("blue.thing", "green.thing"),
    "alter table priced alter amount type numeric(9, 2) using amount * 10": ("public.priced",),
    "alter table bulk set unlogged; insert into bulk values (2); alter table bulk set logged": ("public.bulk",),
}
# What changes no row, or what the log tells: none of it is a reason to make a copy in the window.
HARMLESS = (
    "truncate report",
    "insert into report values (3, 'y')",
    "vacuum (full, analyze) still",
    "reindex table still",
    "create temp table passing as select 1 as n",
    "create table came (id int primary key)",
    "drop table came",
)


@pytest.fixture(params=[15, 17, 18], ids=["pg15", "pg17", "pg18"])
def live(
    request: pytest.FixtureRequest, servers: Servers, new_database: Callable[[Server], Target]
) -> Iterator[Target]:
    if not has_postgres(request.param):
        pytest.skip(f"PostgreSQL {request.param} is not on this machine")
    database = new_database(servers(request.param))
    run(database, SCHEMA)
    try:
        yield database
    finally:
        feed.end(database, LAUNCH)
        drop_database(database.on(f"{database.dbname}_twin"))


def run(database: Target, *statements: str) -> None:
    with connect(database) as connection:
        for statement in statements:
            for one in statement.split("; ") if "vacuum" not in statement else [statement]:
                connection.execute(one.encode())


def test_a_twin_that_would_have_other_rows_is_given_up(live: Target, tmp_path: Path) -> None:
    made = seed(live, tmp_path, major_of(live))
    before, known = definitions(live), set[str]()
    with made.keeper() as keeper, connect(live) as connection:
        keeper.level()
        for what, tables in REMADE.items():
            run(live, what)
            assert definitions(live) == before
            known |= {*tables}
            told = {*feed.changed(connection, LAUNCH), *rewritten(connection, feed_name(LAUNCH))}
            assert known <= told <= {*known, "public.part"}
        with pytest.raises(NotWhole, match=r"changed the schema meanwhile: blue\.thing, green\.thing, public\.bulk"):
            keeper.level(up_to=quiet.safe_point(live))


def test_what_the_log_tells_is_no_reason(live: Target, tmp_path: Path) -> None:
    made = seed(live, tmp_path, major_of(live))
    run(live, *HARMLESS)
    made.finish()
    feed.end(live, LAUNCH)
    assert differences(live, made.twin) == []


def definitions(live: Target) -> object:
    """As they are compared at the safe point: the feed's own are not the twin's."""
    structure = fingerprint.definitions(live).structure
    return {
        (kind, name): text
        for kind, entries in structure.items()
        for name, text in entries.items()
        if feed_name(LAUNCH) not in name
    }


def major_of(live: Target) -> int:
    with connect(live) as connection:
        return connection.info.server_version // 10000
