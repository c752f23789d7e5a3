"""Rows by their age, where the log could not be read: what the tables themselves tell of what was written since."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import Column, Relation
from safepoint.wayback.changes import Change, Transaction

TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname <> 'safepoint' AND n.nspname NOT LIKE 'safepoint\\_%'
GROUP BY 1, 2 ORDER BY 1, 2
"""


def rows_since(connection: Connection, start_xid: int) -> Iterator[Change]:
    """Rows whose newest version is of a transaction since `start_xid`, table by table.

    Both ages count from the same next transaction id, so the comparison holds across a wrap-around.
    """
    tracked = connection.execute("SHOW track_commit_timestamp").fetchone() == ("on",)
    at = sql.SQL("pg_xact_commit_timestamp(t.xmin)" if tracked else "NULL::timestamptz")
    start = str(start_xid % 2**32)
    for schema, name, columns in connection.execute(TABLES).fetchall():
        relation = Relation(0, schema, name, "d", tuple(Column(column, 0, -1, False) for column in columns))
        query = sql.SQL("SELECT t.xmin::text::int8, {}, {} FROM ONLY {} t WHERE age(t.xmin) <= age({}::xid)").format(
            at,
            sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in columns),
            sql.Identifier(schema, name),
            sql.Literal(start),
        )
        with connection.transaction(), connection.cursor("safepoint_rows") as cursor:
            cursor.itersize = 20  # a row may be large
            for xid, committed_at, *values in cursor.execute(query):
                row = dict(zip(columns, values, strict=True))
                transaction = Transaction(xid, 0, committed_at)
                yield Change(transaction, relation, "insert or update", row, {}, {})
