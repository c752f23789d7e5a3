"""Large values that an UPDATE left alone are not in the log: they are brought from the migrated database, by key.

They go from one server to the other as they come, many rows at a time, and nothing here looks into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.expressions import literal, quote, text_of
from safepoint.wayback.staged import Sink
from safepoint.wayback.statements import ask, run

_PIECE: Final = 2_000
GONE: Final = """
SELECT w._sp_at FROM pg_temp.sp_wanted w WHERE NOT EXISTS (SELECT FROM pg_temp.sp_brought b WHERE b.at = w._sp_at)
"""
"""After `fill`: the staged rows of which nobody knows the values any more."""


def fill(connection: Connection, migrated: Connection, sink: Sink, rows: str, keys: Sequence[str], wanted: str) -> None:
    """Bring the values into the staged rows; of rows that the migrated database has no longer `GONE` tells.

    Args:
        rows: the migrated table as it stands in SQL.
        keys: the columns of its key.
        wanted: a query of the staged rows that need it: `_sp_at`, and the key as text.
    """
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_wanted, pg_temp.sp_brought")
    run(connection, f"CREATE TEMP TABLE sp_wanted ON COMMIT DROP AS {wanted}")
    stage = f"pg_temp.{sink.stage}"
    names = [name for (name,) in ask(connection, f"SELECT DISTINCT unnest(_sp_unchanged) FROM {stage}")]
    columns = "".join(f", v{place} text" for place in range(len(names)))
    run(connection, f"CREATE TEMP TABLE sp_brought (at int8{columns}) ON COMMIT DROP")
    with connection.cursor("sp_wanted") as cursor:
        cursor.execute("SELECT * FROM pg_temp.sp_wanted")
        while piece := cursor.fetchmany(_PIECE):
            _bring(connection, migrated, _values(sink, rows, keys, names, piece))
    run(connection, "ANALYZE pg_temp.sp_wanted")
    run(connection, "ANALYZE pg_temp.sp_brought (at)")
    pairs = ", ".join(
        f"{quote(name)} = CASE WHEN {literal(name)} = ANY(s._sp_unchanged) THEN b.v{place} ELSE s.{quote(name)} END"
        for place, name in enumerate(names)
    )
    if pairs:
        run(connection, f"UPDATE {stage} s SET {pairs} FROM pg_temp.sp_brought b WHERE b.at = s._sp_at")


def _values(sink: Sink, rows: str, keys: Sequence[str], names: Sequence[str], wanted: Sequence[tuple[Any, ...]]) -> str:
    """The query for the values of these rows. A COPY has no parameters, so the keys stand in it."""
    types = ["int8", *("text" for _ in keys)]
    arrays = ", ".join(
        f"{literal(list(values))}::{kind}[]" for values, kind in zip(zip(*wanted, strict=True), types, strict=True)
    )
    places = "".join(f", k{place}" for place in range(len(keys)))
    match = " AND ".join(
        f"t.{quote(name)} = w.k{place}::{sink.table.by_name[name].type}" for place, name in enumerate(keys)
    )
    values = "".join(f", {text_of(sink.table.by_name[name], f't.{quote(name)}')}" for name in names)
    return f"SELECT w.at{values} FROM unnest({arrays}) w(at{places}) JOIN {rows} t ON {match}"


def _bring(connection: Connection, migrated: Connection, query: str) -> None:
    leaving = sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")
    coming = "COPY pg_temp.sp_brought FROM STDIN (FORMAT binary)"
    with migrated.cursor() as there, connection.cursor() as here, there.copy(leaving) as out, here.copy(coming) as to:
        for piece in out:
            to.write(piece)
