"""Rows by their age, where the log could not be read: what the tables themselves tell of what was written since."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import starmap
from pathlib import Path
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import Column, Relation
from safepoint.wayback.capture.changes import Change, Transaction
from safepoint.wayback.capture.spool import read_changes

Keys = Mapping[str, Sequence[str]]
"""The columns of each table's primary key."""

_IDS: Final = 2**32
_LARGE: Final = 100 << 20
"""Of values of more bytes their size is told."""
_STORE: Final = "CREATE TABLE xids (xid INTEGER PRIMARY KEY); CREATE TABLE rows (digest BLOB PRIMARY KEY) WITHOUT ROWID"
TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(y.oid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype) ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type y ON y.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
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
    for schema, name, columns, large in connection.execute(TABLES).fetchall():
        relation = Relation(0, schema, name, "d", tuple(Column(column, 0, -1, False) for column in columns))
        query = sql.SQL("SELECT t.xmin::text::int8, {}, {} FROM ONLY {} t WHERE age(t.xmin) <= age({}::xid)").format(
            at,
            sql.SQL(", ").join(starmap(_shown, zip(columns, large, strict=True))),
            sql.Identifier(schema, name),
            sql.Literal(start),
        )
        with connection.transaction(), connection.cursor("safepoint_rows") as cursor:
            cursor.itersize = 20  # a row may be large
            for xid, committed_at, *values in cursor.execute(query):
                row = dict(zip(columns, values, strict=True))
                transaction = Transaction(xid, 0, committed_at)
                yield Change(transaction, relation, "insert or update", row, {}, {})


def _shown(column: str, large: bool) -> sql.Composed:
    """A column as text. What a bytea of half a GB says is more than PostgreSQL can have in one piece of memory."""
    name = sql.Identifier(column)
    if not large:
        return sql.SQL("t.{}::text").format(name)
    return sql.SQL(
        "CASE WHEN octet_length(t.{0}) > {1} THEN '(' || octet_length(t.{0}) || ' bytes)' ELSE t.{0}::text END"
    ).format(name, sql.Literal(_LARGE))


def rows_unread(connection: Connection, spool: Path, start_xid: int, keys: Keys) -> Iterator[Change]:
    """Of a capture that was lost: what `rows_since` gives and the spool does not have.

    Within a savepoint a row gets a transaction id of its own, which the log does not tell. So a row that is not younger
    than all that the spool has counts as read where the spool has its key.
    """
    with closing(sqlite3.connect("")) as store:  # a file that goes with it: the spool may have millions
        store.executescript(_STORE)
        newest = start_xid % _IDS
        for change in read_changes(spool):
            xid = change.transaction.xid % _IDS
            newest = xid if _is_later(xid, newest) else newest
            store.execute("INSERT OR IGNORE INTO xids VALUES (?)", [xid])
            store.execute("INSERT OR IGNORE INTO rows VALUES (?)", [_digest(change, keys)])
        for change in rows_since(connection, start_xid):
            xid = change.transaction.xid % _IDS
            known = store.execute("SELECT 1 FROM xids WHERE xid = ?", [xid]).fetchone()
            if known is None and not _is_later(xid, newest):
                known = store.execute("SELECT 1 FROM rows WHERE digest = ?", [_digest(change, keys)]).fetchone()
            if known is None:
                yield change


def _is_later(xid: int, than: int) -> bool:
    """As PostgreSQL compares them: half of all ids are later than one. Pure."""
    return 0 < (xid - than) % _IDS < _IDS // 2


def _digest(change: Change, keys: Keys) -> bytes:
    row = {**change.old, **change.new}
    names = keys.get(change.table) or sorted(row)
    return hashlib.blake2b(repr((change.table, [row.get(name) for name in names])).encode(), digest_size=16).digest()
