"""Deletions that a rollback could not carry, made good by the next launch: of a row that still is what it was then.

`pg_temp.sp_stash` holds them, with the row's values in `was`; `pg_temp.sp_left` takes what cannot be: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Sequence

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.whole_rows import match


def delete(connection: Connection, table: Table, key: Sequence[str], *, careful: bool) -> tuple[int, int]:
    """Gives how many rows were deleted, and how many were gone already.

    Args:
        key: the columns by which they were stashed.
        careful: they wait for `WholeRows.remove`.
    """
    those = f"s.relation = {literal(table.name)} AND NOT s.whole AND s.action = 'delete'"
    if not ask(connection, f"SELECT EXISTS (SELECT FROM pg_temp.sp_stash s WHERE {those})")[0][0]:
        return 0, 0
    names = [column.name for column in table.columns if column.name not in key]
    newer = " OR ".join(
        f"s.was ? {literal(name)} AND {written(f't.{quote(name)}')} IS DISTINCT FROM s.was ->> {literal(name)}"
        for name in names
    )
    known = ", ".join(map(literal, names)) or "''"
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_met")
    run(
        connection,
        f"CREATE TEMP TABLE sp_met ON COMMIT DROP AS SELECT s.n, s.key, t.ctid AS tid, t.tableoid AS rel, "
        f"CASE WHEN s.bad IS NOT NULL THEN s.bad WHEN t.ctid IS NULL THEN NULL "
        f"WHEN EXISTS (SELECT FROM jsonb_object_keys(s.was) k WHERE k <> ALL(ARRAY[{known}])) "
        f"THEN 'nobody knows whether the row was changed: the new schema has other columns' "
        f"WHEN {newer or 'false'} THEN 'the row has newer values, and is not deleted' END AS why "
        f"FROM pg_temp.sp_stash s LEFT JOIN {rows_of(table)} t ON {match(table, key)} WHERE {those}",
    )
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
