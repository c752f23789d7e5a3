"""Stashed values of rows that were carried, brought together with the rows that stand there after the next migration.

`pg_temp.sp_stash` holds what is to be attached: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.replay.stashing import witness
from safepoint.wayback.replay.statements import REFUSED, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.stash import StashedTable
from safepoint.wayback.stash.whole_rows import match


def meet(connection: Connection, table: Table, told: StashedTable) -> None:
    """Make `sp_met`: the stashed lines with the rows of their keys. `same`: the row is what it was when it was stashed,
    by its other columns, and by what the plan's mappers make of it.

    A mapper that asks for something that is not in the new database cannot tell: then no row is known to be the same.
    """
    same, made = "false", ""
    if told.home and all(column in table.by_name for column in told.home):
        home = [written(f"t.{quote(column)}") for column in told.home]
        same, made = f"s.witness = {witness(home)}", _made(told.mapped)
        for one in told.mapped:
            same += f" AND {written(f'made.{quote(one)}')} IS NOT DISTINCT FROM s.mapped ->> {literal(one)}"
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_met")
    try:
        with connection.transaction():
            run(connection, _meeting(table, told, same, made))
    except (*REFUSED, psycopg.ProgrammingError):
        if not made:
            raise
        run(connection, _meeting(table, told, "false", ""))


def _meeting(table: Table, told: StashedTable, same: str, made: str) -> str:
    return (
        f"CREATE TEMP TABLE sp_met ON COMMIT DROP AS SELECT s.n, s.key, s.vals, s.bad, s.was, t.ctid AS tid, "
        f"t.tableoid AS rel, coalesce({same}, false) AS same, false AS torn FROM pg_temp.sp_stash s "
        f"LEFT JOIN {rows_of(table)} t ON {match(table, told.key)}{made} "
        f"WHERE s.relation = {literal(table.name)} AND NOT s.whole AND s.action <> 'delete'"
    )


def _made(mapped: Mapping[str, str]) -> str:
    """The join of a row `t` with what mappers make of it, `made`: by bare names and `new`, as in a replay."""
    if not mapped:
        return ""
    values = ", ".join(f"{expression} AS {quote(name)}" for name, expression in mapped.items())
    inner = f"SELECT m.* FROM (SELECT t.*) new CROSS JOIN LATERAL (SELECT {values} FROM (SELECT new.*) row_) m"
    return f" LEFT JOIN LATERAL ({inner}) made ON true"
