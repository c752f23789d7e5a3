"""Databases that rollbacks have kept are found by their mark and their name, and no other application's are."""

from __future__ import annotations

from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import Mark, kept_name
from safepoint.wayback.twin.kept import kept_databases


def test_a_kept_database_of_this_one_is_named_with_its_size(database: Target) -> None:
    ours, others = kept_name(database.dbname, "shop-2.0-20260301"), kept_name("another", "shop-2.0-20260301")
    with connect(database.on("postgres")) as connection:
        try:
            for name in (ours, others):
                mark = str(Mark("shop-2.0-20260301", "the migrated database, swapped out", "0/1"))
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                words = sql.Identifier(name), sql.Literal(mark)
                connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(*words))
            found = kept_databases(database)
            assert list(found) == [ours] and found[ours] > 1_000_000
        finally:
            for name in (ours, others):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
