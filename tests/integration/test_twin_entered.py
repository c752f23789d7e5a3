"""Two enter the twin at once, which lets nobody in: a follower that begins again, and a rollback. Both get in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.door import entering


def test_who_enters_it_while_another_does_gets_in(database: Target) -> None:
    name = sql.Identifier(database.dbname)
    with connect(database.on("postgres")) as outside:
        outside.execute(sql.SQL("alter database {} allow_connections false").format(name))

        def enter(_: int) -> int:
            with entering(database, "postgres") as twin:
                row = twin.execute("select 1").fetchone()
            return 0 if row is None else int(row[0])

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(enter, range(60))) == 60
        allowed = outside.execute("select datallowconn from pg_database where datname = %s", [database.dbname])
        assert allowed.fetchone() == (False,)
