"""Keys that are equal and written otherwise: 1.0 and 1.00, by citext or a collation `ada` and `Ada`. They name one row.

`pg_temp.sp_lines` holds the lines: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Column, Table
from safepoint.wayback.mapping.expressions import literal
from safepoint.wayback.replay.statements import REFUSED, run

# What PostgreSQL writes in one way only, and takes for equal where it is written so.
_PLAIN: Final = frozenset({"smallint", "integer", "bigint", "oid", "uuid", "boolean", "date", "bytea"})
_TEXTS: Final = frozenset({"text", "character varying"})


def may_differ(column: Column) -> bool:
    """Whether values of a column may be equal and written otherwise. Pure."""
    return column.base not in _PLAIN and (column.base not in _TEXTS or column.collation is not None)


def spell_alike(connection: Connection, table: Table, key: Sequence[str]) -> None:
    """Have all lines of one row name it as the last one does. What is no value of its type is told later on."""
    columns = [table.by_name[name] for name in key]
    if not any(map(may_differ, columns)):
        return
    of = f"l.line ->> 'relation' = {literal(table.name)} AND l.line -> 'key' <> '{{}}'"
    typed = ", ".join(_typed(column) for column in columns)
    last = "l.place DESC, (l.line ->> 'commit_lsn')::pg_lsn DESC, l.line ->> 'action' <> 'delete' DESC"
    spelled = (
        f"SELECT DISTINCT l.line -> 'key' AS key, first_value(l.line -> 'key') OVER (PARTITION BY {typed} "
        f"ORDER BY {last}) AS now FROM pg_temp.sp_lines l WHERE {of}"
    )
    try:
        with connection.transaction():
            run(
                connection,
                f"UPDATE pg_temp.sp_lines l SET line = jsonb_set(l.line, '{{key}}', k.now) FROM ({spelled}) k "
                f"WHERE {of} AND l.line -> 'key' = k.key AND k.now <> k.key",
            )
    except REFUSED:
        return


def _typed(column: Column) -> str:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    return f"(l.line -> 'key' ->> {literal(column.name)})::{column.type}{collation}"
