"""Another server for the twin: the application's own roles are asked for there, and what they are members of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from postgres_servers import Servers
from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.twin import elsewhere
from safepoint.wayback.twin.pair import Pair

ROLES = ("pair_group", "pair_app")


@pytest.fixture
def pair(servers: Servers, new_database: Callable[..., Target]) -> Iterator[Pair]:
    """A database whose tables are a group's; the application owns nothing in it, and is a member of that group."""
    live, there = new_database(servers(17)), servers(18).target
    with connect(live) as connection:
        connection.execute("create role pair_group")
        connection.execute("create role pair_app login in role pair_group")
        connection.execute("create table item (id int primary key)")
        connection.execute("alter table item owner to pair_group")
    with connect(there) as connection:
        connection.execute("create role pair_group")
    yield Pair(live, there.on("twin"), "shop-2.0")
    with connect(live) as connection:
        connection.execute(sql.SQL("alter database {} owner to postgres").format(sql.Identifier(live.dbname)))
        connection.execute("drop table item")
    for server in (live, there):
        with connect(server) as connection:
            for name in reversed(ROLES):
                connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


def test_the_applications_role_is_asked_for_there_although_it_owns_nothing_and_with_its_memberships(pair: Pair) -> None:
    def said() -> str:
        with connect(pair.live) as connection:
            return "; ".join(elsewhere.problems(connection, pair, ["pair_app"]))

    assert f"{pair.twin.address} has no role pair_app" in said()
    with connect(pair.twin.on("postgres")) as connection:
        connection.execute("create role pair_app login")
        assert f"pair_app is no member of pair_group on {pair.twin.address}" in said()
        connection.execute("grant pair_group to pair_app")
    assert "member" not in said() and "role" not in said()
    with connect(pair.live) as connection:
        owned = sql.SQL("alter database {} owner to pair_app").format(sql.Identifier(pair.live.dbname))
        connection.execute(owned)  # so it is a member of pg_database_owner here
    assert "member" not in said()
