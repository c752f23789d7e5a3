"""A synchronous standby is away: the application goes on by a setting of its own, and our commits would never end."""

from __future__ import annotations

from pathlib import Path

from postgres_servers import Servers, fresh_database

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.wayback.fence.obstacles import in_the_way


def test_that_the_fence_would_wait_for_it_is_told_while_the_site_is_open(servers: Servers, tmp_path: Path) -> None:
    with Server.create(tmp_path / "pg", servers(17).installation, password="only-for-tests") as server:
        database = fresh_database(server)
        with connect(database.on("postgres"), options="-c synchronous_commit=local") as connection:
            connection.execute(f"alter database {database.dbname} set synchronous_commit = local".encode())
            assert in_the_way(database) is None
            connection.execute("alter system set synchronous_standby_names = 'away'")
            connection.execute("select pg_reload_conf(), pg_sleep(0.5)")
            with connect(database) as session:  # the application
                session.execute("create table item (id int)")
            said = in_the_way(database)
            assert said is not None and "synchronous_standby_names" in said
            connection.execute("alter system set synchronous_commit = local")
            connection.execute("select pg_reload_conf(), pg_sleep(0.5)")
        assert in_the_way(database) is None
