"""Deletions that a rollback could not carry, made good by the next launch: of a row that still is what it was then.

`pg_temp.sp_stash` holds them, with the row's values in `was`; `pg_temp.sp_left` takes what cannot be: see `attaching`.
"""

from __future__ import annotations

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.meeting import AS_MADE, bring_together
from safepoint.wayback.stash.stash import StashedTable


def delete(connection: Connection, table: Table, told: StashedTable, *, careful: bool) -> tuple[int, int]:
    """Gives how many rows were deleted, and how many were gone already. `careful`: they wait for `WholeRows.remove`."""
    those = "NOT s.whole AND s.action = 'delete'"
    there = f"SELECT FROM pg_temp.sp_stash s WHERE s.relation = {literal(table.name)} AND {those}"
    if not ask(connection, f"SELECT EXISTS ({there})")[0][0]:
        return 0, 0
    names = [column.name for column in table.columns if column.name not in told.key]
    newer = " OR ".join(
        f"s.was ? {literal(name)} AND {written(f't.{quote(name)}')} IS DISTINCT FROM s.was ->> {literal(name)}"
        for name in names
    )
    known = ", ".join(map(literal, names)) or "''"
    why = (
        f"CASE WHEN s.bad IS NOT NULL THEN s.bad WHEN t.ctid IS NULL THEN NULL "
        f"WHEN EXISTS (SELECT FROM jsonb_object_keys(s.was) k WHERE k <> ALL(ARRAY[{known}])) "
        f"THEN 'nobody knows whether the row was changed: the new schema has other columns' "
        f"WHEN {newer or 'false'} OR NOT {AS_MADE} THEN 'the row has newer values, and is not deleted' "
        f"WHEN {AS_MADE} IS NULL THEN 'nobody knows whether the row was changed: a mapper cannot be asked here' END"
    )
    bring_together(connection, table, told, f"{why} AS why", those)
    run(
        connection,
        f"INSERT INTO pg_temp.sp_left SELECT {literal(table.name)}, key, '*', why, NULL FROM pg_temp.sp_met "
        f"WHERE why IS NOT NULL",
    )
    already = run(connection, "DELETE FROM pg_temp.sp_met WHERE why IS NULL AND tid IS NULL")
    if careful:
        run(connection, "INSERT INTO pg_temp.sp_later SELECT n FROM pg_temp.sp_met WHERE why IS NULL")
        return 0, already
    gone = f"DELETE FROM {rows_of(table)} t USING pg_temp.sp_met m WHERE t.ctid = m.tid AND t.tableoid = m.rel"
    return run(connection, f"{gone} AND m.why IS NULL"), already
