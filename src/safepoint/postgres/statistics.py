"""The planner's statistics of a whole database, which one that was restored has none of."""

from __future__ import annotations

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection

# A partition's are made with its parent's.
_TABLES = """
    select format('%I.%I', n.nspname, c.relname), n.nspname, c.relname
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and not c.relispartition order by c.relpages
"""


def make_statistics(connection: Connection, words: str = "analyze") -> tuple[str, ...]:
    """Make them; a sentence for each table where PostgreSQL refuses: what is computed for them may fail (1 / 0).

    The database that it was restored from has none of that table either, and lives with it.

    Args:
        words: how: `analyze`, or `vacuum (analyze)`.

    Raises:
        psycopg.Error: the connection was lost, or an order ended it.
    """
    try:
        connection.execute(words.encode())
    except psycopg.Error as error:
        _raise_ended(connection, error)
    else:
        return ()
    notes = []
    for name, *table in connection.execute(_TABLES).fetchall():
        try:
            connection.execute(sql.SQL("{} {}").format(sql.SQL(words), sql.Identifier(*table)))
        except psycopg.Error as error:
            _raise_ended(connection, error)
            notes.append(f"{name} has no statistics: {error.diag.message_primary}. Its source can have none either")
    return tuple(notes)


def _raise_ended(connection: Connection, error: psycopg.Error) -> None:
    if connection.broken or isinstance(error, psycopg.errors.QueryCanceled):
        raise error
