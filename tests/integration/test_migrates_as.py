"""An application whose sessions act as another role (ALTER ROLE, ALTER DATABASE ... SET role) has tables of that one's.

What the migration makes is that one's, too, or the new release could not use it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from books import Books, books
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.wayback.fence.login import drop_migration_login, migration_login

SETS = ("alter role {app} set role = {keeper}", "alter role {app} in database {base} set role = {keeper}")
OF_ALL = "alter database {base} set role = {keeper}"


@pytest.fixture(params=[15, 18], ids=["pg15", "pg18"])
def site(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[Books, str]]:
    """The books, and the role that they belong to."""
    if not has_postgres(request.param):
        pytest.skip(f"PostgreSQL {request.param} is not on this machine")
    database, keeper = fresh_database(servers(request.param)), f"keeper_{time.monotonic_ns()}"
    try:
        with books(database) as made, connect(database) as admin:
            admin.execute(f"create role {keeper} nologin; grant {keeper} to {made.role}".encode())
            admin.execute(f"reassign owned by {made.role} to {keeper}".encode())
            try:
                yield made, keeper
            finally:
                with connect(database) as inside:
                    inside.execute(f"reassign owned by {keeper} to current_user; drop owned by {keeper}".encode())
                    inside.execute(f"drop role {keeper}".encode())
    finally:
        drop_database(database)


@pytest.mark.parametrize("words", [*SETS, OF_ALL], ids=["role", "role in database", "database"])
def test_what_a_migration_makes_belongs_to_whom_the_applications_tables_do(site: tuple[Books, str], words: str) -> None:
    made, keeper = site
    names = {"app": made.role, "keeper": keeper, "base": made.target.dbname}
    with connect(made.target.on("postgres")) as admin:
        admin.execute(sql.SQL(words).format(**{name: sql.Identifier(one) for name, one in names.items()}))
    with connect(migration_login(made.target, "launch-1", made.role)) as session:
        session.execute("create table made_by_migration (id int); alter table ledger_entry add extra int")
        owner = session.execute("select tableowner from pg_tables where tablename = 'made_by_migration'").fetchone()
    assert owner == (keeper,)
    with connect(made.target) as admin:
        admin.execute(f"alter database {made.target.dbname} reset role".encode())
    assert drop_migration_login(made.target, "launch-1", made.role)
