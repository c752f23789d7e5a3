"""Whether a twin is the same as the database that it was copied from: its relations, their sizes, its sequences."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import zip_longest
from typing import Any

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target

# A copy keeps the oids, so both lists come in the same order. Sizes are of the main fork: a few system calls per
# table, whatever its size. Catalogue tables are left out: the server itself writes to them (statistics).
CONTENTS = """
SELECT c.oid::int8, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind::text,
       CASE WHEN c.relkind IN ('r', 'm', 'i') THEN pg_relation_size(c.oid) END,
       CASE WHEN c.relkind = 'S' AND c.relpersistence <> 't' THEN pg_sequence_last_value(c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND c.relpersistence <> 't'
ORDER BY c.oid
"""

Relation = tuple[int, str, str, int | None, int | None]


def verified(live: Target, twin: str, *, finished: bool) -> tuple[int, int, int]:
    """Compare the copy with its source: the same relations, sizes and sequence values; gives counts and bytes.

    A finished twin was compared when it was made; it lets nobody in, and the live one may have gone on since.
    """
    tables = sequences = size = 0
    with connect(live, application_name="safepoint twin") as one:
        if finished:
            with closing(_contents(one)) as there:
                for _, _, kind, bytes_, _ in there:
                    tables, sequences, size = tables + (kind in "rmp"), sequences + (kind == "S"), size + (bytes_ or 0)
            return tables, sequences, size
        # Closed here and not when they are thrown away, where a server that has gone would be a traceback of Python's.
        with (
            connect(live.on(twin), application_name="safepoint twin") as other,
            closing(_contents(one)) as live_ones,
            closing(_contents(other)) as twins,
        ):
            for ours, theirs in zip_longest(live_ones, twins):
                if ours != theirs and not _same_rows(one, other, ours, theirs):
                    raise _differs(live.dbname, twin, ours, theirs)
                tables, sequences = tables + (ours[2] in "rmp"), sequences + (ours[2] == "S")
                size += ours[3] or 0
    return tables, sequences, size


def _contents(connection: Connection) -> Generator[Any, None, None]:
    with connection.transaction(), connection.cursor("safepoint_contents") as cursor:
        yield from cursor.execute(CONTENTS)


def _same_rows(one: Connection, other: Connection, ours: Relation | None, theirs: Relation | None) -> bool:
    """Only the sizes differ (a vacuum gave pages back between the copy and now): count the rows."""
    if ours is None or theirs is None or ours[:3] != theirs[:3] or ours[4] != theirs[4]:
        return False
    if ours[2] == "i":
        return True  # its table is compared itself
    counts = [connection.execute(f"SELECT count(*) FROM {ours[1]}").fetchone() for connection in (one, other)]
    return bool(counts[0] == counts[1])


def _differs(live: str, twin: str, ours: Relation | None, theirs: Relation | None) -> DatabaseError:
    return DatabaseError(
        f"The twin {twin} is not the same as {live}.",
        subject=(ours or theirs or (0, twin))[1],
        expected=f"{ours}",
        found=f"{theirs}",
        remedy="The live database is untouched. Run the step again: the copy is removed and made anew.",
    )
