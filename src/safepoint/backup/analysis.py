"""The planner's statistics of a restored database.

A dump has none, and without them the first queries of those who come back read whole tables, until autovacuum has been
everywhere; at a partitioned table it never looks.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Progress, Report

# A partition's are made with its parent's.
_TABLES = """
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and not c.relispartition
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
    order by c.relpages
"""


def analyse(target: Target, *, report: Report) -> tuple[str, ...]:
    """Make them, table by table; a sentence for each one where PostgreSQL refuses.

    Raises:
        psycopg.Error: the connection was lost.
    """
    notes = []
    with connect(target, application_name="safepoint restore") as connection:
        tables = connection.execute(_TABLES).fetchall()
        for number, table in enumerate(tables):
            try:
                connection.execute(sql.SQL("analyze {}").format(sql.Identifier(*table)))
            except psycopg.Error as error:
                if connection.broken:
                    raise
                notes.append(f"{'.'.join(table)} has no statistics: {error.diag.message_primary}. ANALYZE it")
            report(Progress("statistics", number + 1, len(tables), "tables"))
    return tuple(notes)
