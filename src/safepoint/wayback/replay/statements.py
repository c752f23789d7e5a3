"""Statements of the replay: run, asked, and tried on ever fewer rows where a whole set of them fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection

REFUSED: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.RaiseException,
    psycopg.errors.ProgramLimitExceeded,  # a value that is too long for an index
    psycopg.errors.CardinalityViolation,  # a mapper's subquery that finds several rows
)
"""By which PostgreSQL says that it will not have a row."""
# Classes of errors that are no row's: the session's, its locks', the server's (PostgreSQL's errcodes-appendix).
_NO_ROWS: Final = ("08", "25", "40", "53", "55P03", "57", "58", "F0", "XX")

_PIECE: Final = 40
_READ: Final = 200  # characters of a reason
# Row by row, where a whole set failed: which rows cannot be held, and what PostgreSQL said.
_EACH: Final = """
CREATE OR REPLACE FUNCTION pg_temp.sp_each(listing text, statement text) RETURNS TABLE (n int8, said text)
LANGUAGE plpgsql AS $$
DECLARE one int8;
BEGIN
    FOR one IN EXECUTE listing LOOP
        BEGIN
            EXECUTE statement USING one;
        EXCEPTION WHEN OTHERS THEN
            n := one; said := SQLERRM; RETURN NEXT;
        END;
    END LOOP;
END $$
"""


def is_unmade(error: psycopg.Error) -> bool:
    """Whether PostgreSQL says so that a value cannot be computed: of a row that names a table, a configuration, an
    object that is not there, or of each. A function of somebody's own may raise anything. Pure."""
    return error.sqlstate is not None and not error.sqlstate.startswith(_NO_ROWS)


def run(connection: Connection, statement: str) -> int:
    """Run one statement without parameters; gives how many rows it touched."""
    return connection.execute(sql.SQL(statement)).rowcount


def ask(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """Run one query without parameters."""
    return connection.execute(sql.SQL(statement)).fetchall()


def failing(
    connection: Connection, statement: str, listing: str, name: str, numbered: str | None = None
) -> list[tuple[int, str]]:
    """Run a statement that ends in a WHERE for all rows; where that fails, for halves of them, then row by row.

    Gives the rows that failed, with what PostgreSQL said. `name` is the row's number in the statement; `numbered` the
    temporary table and column that has it, where there is no index yet: without one each row takes as long as all.
    What fails where there is no row at all is no row's fault, and is raised.
    """
    try:
        if attempt(connection, statement) is None:
            return []
    except psycopg.DatabaseError as error:
        if not is_unmade(error):
            raise
        run(connection, f"{statement} AND false")
    if numbered is not None:
        run(connection, f"CREATE INDEX ON {numbered}")
    run(connection, _EACH)
    numbers = sorted(row[0] for row in ask(connection, listing))
    pending, found = [numbers], []
    while pending:
        piece = pending.pop()
        if not piece:
            continue
        if len(piece) > _PIECE:
            bounds = f"{statement} AND {name} BETWEEN {piece[0]} AND {piece[-1]}"
            if attempt(connection, bounds, is_unmade) is not None:
                pending += [piece[: len(piece) // 2], piece[len(piece) // 2 :]]
            continue
        each = f"{listing} AND n BETWEEN {piece[0]} AND {piece[-1]} ORDER BY n"
        rows = connection.execute("SELECT n, said FROM pg_temp.sp_each(%s, %s)", [each, f"{statement} AND {name} = $1"])
        found += [(n, in_a_line(said)) for n, said in rows]
    return found


def in_a_line(said: str) -> str:
    """What PostgreSQL said, in a line that people can read: the value stands in it, which may be of a megabyte, or of
    several lines.
    """
    line = " ".join(said[: 5 * _READ].split())
    return line if len(line) <= _READ else f"{line[: _READ - 3]}..."  # which each database can hold


def is_refused(error: psycopg.Error) -> bool:
    """Whether PostgreSQL says so that it will not have a row. Pure."""
    return isinstance(error, REFUSED)


def attempt(
    connection: Connection, statement: str, excused: Callable[[psycopg.Error], bool] = is_refused
) -> str | None:
    """Run it in a savepoint; what PostgreSQL said where a row's values made it fail (an error that is `excused`), None
    where it went well."""
    try:
        with connection.transaction():
            run(connection, statement)
    except psycopg.DatabaseError as error:
        if not excused(error):
            raise
        return error.diag.message_primary or str(error)
    return None
