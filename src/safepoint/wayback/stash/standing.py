"""Stashed rows of tables that mappers read, where the next migration has made its rows of what these had given the old
release: which of them come back all the same.

Where the mappers make the same of the row that they lead to as they did at the rollback, nobody changed it meanwhile:
so its rows may be what they were. Those that the migration has made are there; the others, which the old release had no
place for, come back beside them. Rows are known by what only one may have, beside their number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import literal
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.given import Given, joined, made_as_json
from safepoint.wayback.stash.numbers import like_one
from safepoint.wayback.stash.stash import Stash

_STAGE = """
CREATE TEMP TABLE sp_groups_given (
    place int4, child text, n int4, columns jsonb, key jsonb, made jsonb, stands boolean NOT NULL DEFAULT false)
    ON COMMIT DROP
"""
# A later rollback's mappers had what an earlier stash gave back.
_LATEST = """
DELETE FROM pg_temp.sp_groups_given g USING pg_temp.sp_groups_given h
WHERE h.child = g.child AND h.columns = g.columns AND h.key = g.key AND h.place > g.place
"""


def stage(connection: Connection, catalogue: Catalogue, found: Sequence[Stash]) -> None:
    """Make `sp_groups_given`, before anything is written: mappers read what stands there now."""
    run(connection, _STAGE)
    for place, stash in enumerate(found):
        if stash.given_rows is None:
            continue
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY pg_temp.sp_groups_given (place, child, n, columns, key, made) FROM STDIN") as copy,
            stash.given_rows.open(encoding="utf-8") as file,
        ):
            for line in map(json.loads, file):
                one = stash.given[line["n"]]
                texts = json.dumps(one.columns), json.dumps(line["key"]), json.dumps(line["made"])
                copy.write_row((place, one.child, line["n"], *texts))
        for n, one in enumerate(stash.given):
            _mark(connection, catalogue, one, f"g.place = {place} AND g.n = {n}")
    run(connection, _LATEST)


def _mark(connection: Connection, catalogue: Catalogue, given: Given, which: str) -> None:
    """Where a mapper cannot be asked here, or names what is gone, none stands."""
    table = catalogue.tables.get(given.table)
    if table is None or not {*given.parent_columns} <= table.by_name.keys():
        return
    rows = joined(catalogue, given, "w", f"(SELECT g.ctid AS at, g.* FROM pg_temp.sp_groups_given g WHERE {which})")
    try:
        with connection.transaction():
            run(
                connection,
                f"UPDATE pg_temp.sp_groups_given g SET stands = true FROM (SELECT w.at FROM {rows} "
                f"WHERE {made_as_json(given)} = w.made) s WHERE g.ctid = s.at",
            )
    except psycopg.DatabaseError as error:
        if not is_unmade(error):
            raise


def restore(connection: Connection, table: Table, key: Sequence[str], same: str) -> int:
    """See to it that of the lines `m` of `sp_met` that lead to such rows those come back that are not there: they are
    marked as `kept`. Gives how many deletions were done already.

    Args:
        same: whether a row `t` has all that a line says, beside its number.
    """
    found = ask(connection, f"SELECT DISTINCT columns FROM pg_temp.sp_groups_given WHERE child = {literal(table.name)}")
    like = like_one(table, key)
    if not found or not like:
        return 0
    stands = " AND ".join(
        f"EXISTS (SELECT FROM pg_temp.sp_groups_given g WHERE g.child = {literal(table.name)} AND g.stands "
        f"AND g.columns = {literal(json.dumps(columns))}::jsonb AND g.key = jsonb_build_array("
        f"{', '.join(f'm.vals ->> {literal(name)}' for name in columns)}))"
        for (columns,) in found
    )
    there = f"SELECT FROM {rows_of(table)} t WHERE ({like})"
    done = run(
        connection, f"DELETE FROM pg_temp.sp_met m WHERE action = 'delete' AND {stands} AND NOT EXISTS ({there})"
    )
    run(connection, f"UPDATE pg_temp.sp_met m SET kept = true WHERE action <> 'delete' AND {stands}")
    run(
        connection,
        f"UPDATE pg_temp.sp_met m SET tid = NULL, rel = NULL, vals = CASE WHEN tid IS NULL THEN vals "
        f"ELSE vals || {_next(table, key)} END WHERE kept AND NOT EXISTS ({there})",
    )
    run(
        connection,
        f"UPDATE pg_temp.sp_met m SET tid = t.ctid, rel = t.tableoid FROM {rows_of(table)} t "
        f"WHERE m.kept AND ({like}) AND NOT ({same})",
    )
    return done


def _next(table: Table, key: Sequence[str]) -> str:
    """The number that a row gets whose own the migration has given away; nothing where its key is none."""
    column = table.by_name[key[0]] if len(key) == 1 else None
    if column is None or column.sequence is None:
        return "'{}'::jsonb"
    return f"jsonb_build_object({literal(column.name)}, nextval({literal(column.sequence)})::text)"
