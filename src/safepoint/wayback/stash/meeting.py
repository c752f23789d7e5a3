"""Stashed values of rows that were carried, brought together with the rows that stand there after the next migration.

`pg_temp.sp_stash` holds what is to be attached: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.replay.stashing import witness
from safepoint.wayback.replay.statements import REFUSED, run
from safepoint.wayback.replay.too_large import fits
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.stash import StashedTable
from safepoint.wayback.stash.whole_rows import match

AS_MADE: Final = "{as_made}"


def meet(connection: Connection, table: Table, told: StashedTable) -> None:
    """Make `sp_met` of what was changed. `same`: the row is what it was when it was stashed, by its other columns, and
    by what the plan's mappers make of it; that alone is `as_made`, NULL where they cannot be asked here. `joined`: for
    these all belongs together that a line has."""
    same = as_it_was(table)
    if told.home and all(column in table.by_name for column in told.home):
        now = [written(f"t.{quote(column)}") for column in told.home]
        same = f"(CASE WHEN s.witness IS NOT NULL AND {fits(now)} THEN s.witness = {witness(now)} END OR {same})"
    columns = (
        f"s.vals, s.bad, s.was, coalesce({same} AND {AS_MADE}, false) AS same, "
        f"{AS_MADE} AS as_made, "
        f"s.was IS NOT NULL AND s.mapped IS NOT NULL AS joined, false AS torn"
    )
    bring_together(connection, table, told, columns, "NOT s.whole AND s.action <> 'delete'")


def bring_together(connection: Connection, table: Table, told: StashedTable, columns: str, which: str) -> None:
    """Make `sp_met`: the lines `s` that are asked for with the rows `t` of their keys, and what else is said of both.

    `AS_MADE` in it is whether the plan's mappers make of the row what they made when it was stashed. One that asks for
    something that is not in the new database cannot tell: then it is NULL.
    """
    query = (
        f"CREATE TEMP TABLE sp_met ON COMMIT DROP AS SELECT s.n, s.key, t.ctid AS tid, t.tableoid AS rel, {columns} "
        f"FROM pg_temp.sp_stash s LEFT JOIN {rows_of(table)} t ON {match(table, told.key)}{{made}} "
        f"WHERE s.relation = {literal(table.name)} AND {which}"
    )
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_met")
    try:
        with connection.transaction():
            run(connection, query.replace(AS_MADE, _as_made(told.mapped)).replace("{made}", _made(told.mapped)))
    except (*REFUSED, psycopg.ProgrammingError):
        if not told.mapped:
            raise
        run(connection, query.replace(AS_MADE, "nullif(s.mapped IS NULL, false)").replace("{made}", ""))


def as_it_was(table: Table) -> str:
    """Whether a row `t` has what the line `s` says that it had; NULL where it says nothing of that."""
    names = ", ".join(literal(one.name) for one in table.columns)
    others = f"EXISTS (SELECT FROM jsonb_object_keys(s.was) k WHERE k <> ALL(ARRAY[{names}]::text[]))"
    equal = (
        f"(NOT s.was ? {literal(one.name)} OR {written(f't.{quote(one.name)}')} IS NOT DISTINCT FROM "
        f"s.was ->> {literal(one.name)})"
        for one in table.columns
    )
    return f"(CASE WHEN s.was IS NOT NULL THEN NOT {others} AND {' AND '.join(equal)} END)"


def _as_made(mapped: Mapping[str, str]) -> str:
    names = ", ".join(map(literal, mapped))
    others = f"EXISTS (SELECT FROM jsonb_object_keys(s.mapped) k WHERE k <> ALL(ARRAY[{names}]::text[]))"
    equal = (
        f"(NOT s.mapped ? {literal(one)} OR {written(f'made.{quote(one)}')} IS NOT DISTINCT FROM "
        f"s.mapped ->> {literal(one)})"
        for one in mapped
    )
    return f"(s.mapped IS NULL OR {' AND '.join([f'NOT {others}', *equal])})"


def _made(mapped: Mapping[str, str]) -> str:
    """The join of a row `t` with what mappers make of it, `made`: by bare names and `new`, as in a replay."""
    if not mapped:
        return ""
    values = ", ".join(f"{expression} AS {quote(name)}" for name, expression in mapped.items())
    inner = f"SELECT m.* FROM (SELECT t.*) new CROSS JOIN LATERAL (SELECT {values} FROM (SELECT new.*) row_) m"
    return f" LEFT JOIN LATERAL ({inner}) made ON true"
