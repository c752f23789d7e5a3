"""Stashed values that a deferrable constraint forbids: while triggers are silent, PostgreSQL never asks it.

`pg_temp.sp_met` holds what is to be attached: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table, Unique
from safepoint.wayback.mapping.expressions import FILLED, quote
from safepoint.wayback.replay.statements import REFUSED, run
from safepoint.wayback.replay.work import rows_of

RIVAL: Final = "m.n IN (SELECT n FROM pg_temp.sp_rivals)"
"""Whether a row `m` of `sp_met` is one of those that were found."""


def put_aside_rivals(
    connection: Connection, table: Table, values: Mapping[str, str], which: str, refuse: Callable[[Unique, str], object]
) -> None:
    """Until none is found any more: a row that keeps its former key may be in the way of another one.

    Args:
        values: by column, what a row `m` of `sp_met` is going to have in it, as SQL; `t` is the row that it has met.
        which: the condition on `m` for those that get values at all.
        refuse: takes the constraint, and the reason, and sees to it that what is `RIVAL` is not attached.
    """
    for unique in table.uniques:
        if unique.immediate or not unique.plain or values.keys().isdisjoint(unique.columns):
            continue
        while _find(connection, table, unique, values, which):
            refuse(unique, f"another row has the same {unique.name}")


def _find(connection: Connection, table: Table, unique: Unique, values: Mapping[str, str], which: str) -> int:
    """Make `sp_rivals`; gives how many there are. A value that is none of its type is found when it is to be set."""
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_rivals")
    try:
        with connection.transaction():
            return run(connection, _query(table, unique, values, which))
    except REFUSED:
        return 0


def _query(table: Table, unique: Unique, values: Mapping[str, str], which: str) -> str:
    names = [f"k{place}" for place in range(len(unique.columns))]
    own = [values.get(column, f"t.{quote(column)}") for column in unique.columns]
    keys = ", ".join(f"{value} AS {name}" for value, name in zip(own, names, strict=True))
    filled = "true" if unique.nulls_equal else " AND ".join(f"{name} {FILLED}" for name in names)
    equal = "IS NOT DISTINCT FROM" if unique.nulls_equal else "="
    same = " AND ".join(
        f"t.{quote(column)} {equal} c.{name}" for column, name in zip(unique.columns, names, strict=True)
    )
    rows = rows_of(table)
    return f"""
        CREATE TEMP TABLE sp_rivals ON COMMIT DROP AS
        WITH coming AS MATERIALIZED (
            SELECT m.n, m.tid, m.rel, {keys} FROM pg_temp.sp_met m
            LEFT JOIN {rows} t ON t.ctid = m.tid AND t.tableoid = m.rel WHERE {which}
        )
        SELECT n FROM (SELECT n, row_number() OVER (PARTITION BY {", ".join(names)} ORDER BY tid IS NULL, n) AS place
                       FROM coming WHERE {filled}) x WHERE place > 1
        UNION
        SELECT c.n FROM coming c JOIN {rows} t ON {same}
        WHERE NOT EXISTS (SELECT FROM coming g WHERE g.tid = t.ctid AND g.rel = t.tableoid)
    """
