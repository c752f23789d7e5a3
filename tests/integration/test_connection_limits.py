"""A role, or a database, whose connections are used up: that passes, or can be mended, and is no refusal of a login."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from safepoint.errors import ServerAway
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

ROLE = "of_few_connections"


@contextmanager
def ordinary(database: Target) -> Iterator[Target]:
    """The database by a role that limits hold for: they do not for a superuser."""
    role, beside = sql.Identifier(ROLE), database.on("postgres")
    with connect(beside) as connection:
        connection.execute(sql.SQL("create role {} login password 'x'").format(role))
        try:
            yield database.login(ROLE, "x")
        finally:
            connection.execute(sql.SQL("drop role {}").format(role))


@pytest.mark.parametrize("limit", ["alter role {role} connection limit 1", "alter database {name} connection limit 1"])
def test_connections_that_are_used_up_are_waited_for_and_the_limit_is_named(database: Target, limit: str) -> None:
    names = {"role": sql.Identifier(ROLE), "name": sql.Identifier(database.dbname)}
    with ordinary(database) as login:
        with connect(database.on("postgres")) as connection:
            connection.execute(sql.SQL(limit).format(**names))
        with connect(login), pytest.raises(ServerAway, match="too many connections for") as caught:
            connect(login)
        assert "CONNECTION LIMIT" in str(caught.value.remedy)
        assert connected(login)


def connected(login: Target) -> bool:
    """Whether the server has room again; it notices a moment later that a session has ended."""
    for _ in range(100):
        try:
            connect(login).close()
        except ServerAway:
            time.sleep(0.05)
        else:
            return True
    return False
