"""Large values that an UPDATE left alone are not in the log: they are brought from the migrated database, by key.

They go from one server to the other as they come, many rows at a time, and nothing here looks into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.mapping.reading import texts_of
from safepoint.wayback.replay.staged import Sink
from safepoint.wayback.replay.statements import ask, in_a_line, is_unmade, run
from safepoint.wayback.replay.work import quoted, rows_of

PIECE: Final = 2_000
GONE: Final = """
SELECT w._sp_at FROM pg_temp.sp_wanted w WHERE NOT EXISTS (SELECT FROM pg_temp.sp_brought b WHERE b.at = w._sp_at)
"""
"""After `fill`: the staged rows of which nobody knows the values any more."""


def fill(
    connection: Connection, migrated: Connection, sink: Sink, keys: Sequence[str], wanted: str
) -> list[tuple[int, str]]:
    """Bring the values into the staged rows; of rows that the migrated database has no longer `GONE` tells.

    Args:
        keys: the columns of the table's key.
        wanted: a query of the staged rows that need it: `_sp_at`, and the key as text.

    Returns:
        The staged rows of which a mapper's value cannot be computed, and what PostgreSQL said. To `GONE` they belong.
    """
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_wanted, pg_temp.sp_brought")
    run(connection, f"CREATE TEMP TABLE sp_wanted ON COMMIT DROP AS {wanted}")
    stage = f"pg_temp.{sink.stage}"
    names = [name for (name,) in ask(connection, f"SELECT DISTINCT unnest(_sp_unchanged) FROM {stage}")]
    columns = "".join(f", v{place} text" for place in range(len(names)))
    run(connection, f"CREATE TEMP TABLE sp_brought (at int8{columns}) ON COMMIT DROP")
    failed: list[tuple[int, str]] = []
    with connection.cursor("sp_wanted") as cursor:
        cursor.execute("SELECT * FROM pg_temp.sp_wanted")
        while piece := cursor.fetchmany(PIECE):
            failed += bring_all(connection, migrated, sink.table, keys, names, piece, "pg_temp.sp_brought")
    run(connection, "ANALYZE pg_temp.sp_wanted")
    run(connection, "ANALYZE pg_temp.sp_brought (at)")
    pairs = ", ".join(
        f"{quote(name)} = CASE WHEN {literal(name)} = ANY(s._sp_unchanged) THEN b.v{place} ELSE s.{quote(name)} END"
        for place, name in enumerate(names)
    )
    if pairs:
        run(connection, f"UPDATE {stage} s SET {pairs} FROM pg_temp.sp_brought b WHERE b.at = s._sp_at")
    return failed


def bring_all(
    connection: Connection,
    migrated: Connection,
    table: Table,
    keys: Sequence[str],
    names: Sequence[str],
    wanted: Sequence[tuple[Any, ...]],
    into: str,
) -> list[tuple[int, str]]:
    """Bring the values of these rows; where a mapper fails, or a key is none any more (an enum's value has another name
    since), of halves of them, so that only the rows fail of which it does: gives these, with what PostgreSQL said."""
    made = any(table.by_name[name].made for name in names)
    pending, failed = [wanted], []
    while pending:
        piece = pending.pop()
        try:
            with connection.transaction():
                bring(connection, migrated, values_of(table, keys, names, piece), into)
        except psycopg.DatabaseError as error:
            if not (is_unmade(error) if made else isinstance(error, psycopg.errors.InvalidTextRepresentation)):
                raise
            if len(piece) > 1:
                pending += [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
            else:
                failed.append((int(piece[0][0]), in_a_line(error.diag.message_primary or str(error))))
    return failed


def values_of(
    table: Table, keys: Sequence[str], names: Sequence[str], wanted: Sequence[tuple[Any, ...]], head: str = "w.at"
) -> str:
    """The query for the values of rows of which a number is wanted, and the key as text. A COPY has no parameters, so
    they stand in it. `head`: what stands before the values.
    """
    types = ["int8", *("text" for _ in keys)]
    arrays = ", ".join(
        f"{literal(list(values))}::{kind}[]" for values, kind in zip(zip(*wanted, strict=True), types, strict=True)
    )
    places = "".join(f", k{place}" for place in range(len(keys)))
    match = " AND ".join(
        f"new.{quote(name)} = w.k{place}::{table.by_name[name].type}" for place, name in enumerate(keys)
    )
    values, join = texts_of(table, names)
    return " UNION ALL ".join(
        f"SELECT {head}{values} FROM unnest({arrays}) w(at{places}) JOIN {rows} new ON {match}{join} WHERE {which}"
        for rows, which in standing(table)
    )


def standing(table: Table) -> list[tuple[str, str]]:
    """Where the rows of a migrated table are, as SQL, and which of these rows `new` are its own: what was a partition
    until after the launch has its rows still, but those that the table has again. Pure."""
    found = [(rows_of(table), "true")]
    same = " AND ".join(f"r.{quote(name)} = new.{quote(name)}" for name in table.key)
    for leaf in table.apart:
        columns = ", ".join(
            ("" if one.name in leaf.by_name else f"NULL::{one.type} AS ") + quote(one.name)
            for one in table.columns
            if one.made is None
        )
        rows = f"(SELECT tableoid, {columns} FROM ONLY {quoted(leaf)})"
        found.append((rows, f"NOT EXISTS (SELECT FROM {rows_of(table)} r WHERE {same})"))
    return found


def bring(connection: Connection, migrated: Connection, query: str, into: str) -> None:
    """Take what a query of the migrated database gives into a table of the twin's, or into columns of it."""
    leaving = sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")
    coming = sql.SQL(f"COPY {into} FROM STDIN (FORMAT binary)")
    with migrated.cursor() as there, connection.cursor() as here, there.copy(leaving) as out, here.copy(coming) as to:
        for piece in out:
            to.write(piece)
