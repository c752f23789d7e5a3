"""Stashed rows of tables that mappers read, where the next migration has made its rows of what these had given the old
release: which of them come back all the same.

Where the mappers make the same of the row that they lead to as they did at the rollback, nobody changed it meanwhile:
so its rows may be what they were. Those that the migration has made are there; the others, which the old release had no
place for, come back beside them. Rows are known by what only one may have, beside their number. Where the row that they
lead to is not there, for it was put aside itself, the migration has made nothing of it, and they come back with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.replay.statements import ask, is_unmade, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.given import Given, joined, made_as_json
from safepoint.wayback.stash.numbers import like_lines, like_one
from safepoint.wayback.stash.stash import Stash

_STAGE = """
CREATE TEMP TABLE sp_groups_given (
    place int4, child text, n int4, columns jsonb, key jsonb, made jsonb, stands boolean NOT NULL DEFAULT false,
    alone boolean NOT NULL DEFAULT false) ON COMMIT DROP
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
    # Nobody can estimate how many rows what stands in JSON finds.
    run(connection, "CREATE INDEX ON pg_temp.sp_groups_given (child, columns, key)")
    run(connection, "ANALYZE pg_temp.sp_groups_given")


def _mark(connection: Connection, catalogue: Catalogue, given: Given, which: str) -> None:
    """Where a mapper cannot be asked here, or names what is gone, none stands."""
    table = catalogue.tables.get(given.table)
    if table is None or not {*given.parent_columns} <= table.by_name.keys():
        return
    names = enumerate(given.parent_columns)
    same = " AND ".join(f"t.{quote(one)} = (g.key ->> {at})::{table.by_name[one].type}" for at, one in names)
    run(
        connection,
        f"UPDATE pg_temp.sp_groups_given g SET stands = true, alone = true "
        f"WHERE {which} AND NOT EXISTS (SELECT FROM {rows_of(table)} t WHERE {same})",
    )
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


def _stands(connection: Connection, table: Table) -> str | None:
    """Whether the row `m` of a table leads to such rows, as SQL; None where none of it may come back."""
    return " AND ".join(_groups(connection, table, "g.stands")) or None


def _alone(connection: Connection, table: Table) -> str:
    """Whether it leads to one that is not there, as SQL."""
    return f"({' OR '.join(_groups(connection, table, 'g.alone')) or 'false'})"


def _groups(connection: Connection, table: Table, condition: str) -> list[str]:
    found = ask(connection, f"SELECT DISTINCT columns FROM pg_temp.sp_groups_given WHERE child = {literal(table.name)}")
    return [
        f"EXISTS (SELECT FROM pg_temp.sp_groups_given g WHERE g.child = {literal(table.name)} AND {condition} "
        f"AND g.columns = {literal(json.dumps(columns))}::jsonb AND g.key = jsonb_build_array("
        f"{', '.join(f'm.vals ->> {literal(name)}' for name in columns)}))"
        for (columns,) in found
    ]


def place_beside(connection: Connection, table: Table, key: Column, place: int) -> None:
    """Under which numbers (`pg_temp.sp_made`, see `renumbering`) the rows of a stash's lines are to be found: that of
    the row that is like it, its own where nobody has that, or one that is free, which its lines get as well; none where
    such a row does not come back."""
    name, column, like = literal(table.name), literal(key.name), like_one(table, (key.name,))
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_beside")
    run(
        connection,
        f"CREATE TEMP TABLE sp_beside ON COMMIT DROP AS SELECT * FROM (SELECT DISTINCT ON (1) "
        f"l.line -> 'key' ->> {column} AS key, l.line -> 'values' AS vals, l.line ->> 'action' AS action "
        f"FROM pg_temp.sp_lines l WHERE l.line ->> 'relation' = {name} AND l.place = {place} "
        f"ORDER BY 1, (l.line ->> 'commit_lsn')::pg_lsn DESC) l WHERE action NOT IN ('delete', 'truncate')",
    )
    of = f"x.relation = {name} AND x.place = {place} AND x.key = m.key AND x.now IS NULL"
    if like:
        found = f"(SELECT min(t.{quote(key.name)}::text) FROM {rows_of(table)} t WHERE {like})"
        run(connection, f"UPDATE pg_temp.sp_made x SET now = {found} FROM pg_temp.sp_beside m WHERE {of}")
    used = f"EXISTS (SELECT FROM {rows_of(table)} t WHERE t.{quote(key.name)} = m.key::{key.type})"
    run(connection, f"UPDATE pg_temp.sp_made x SET now = x.key FROM pg_temp.sp_beside m WHERE {of} AND NOT {used}")
    stands = _stands(connection, table)
    if stands is None or key.sequence is None:
        return
    if not like:
        stands = f"{stands} AND {_alone(connection, table)}"
    known = f"SELECT FROM pg_temp.sp_moved v WHERE v.relation = {name} AND v.was = m.key"
    run(
        connection,
        f"INSERT INTO pg_temp.sp_moved SELECT {name}, {column}, m.key, nextval({literal(key.sequence)})::text "
        f"FROM pg_temp.sp_beside m JOIN pg_temp.sp_made x ON {of} WHERE {stands} AND NOT EXISTS ({known})",
    )
    moved = f"FROM pg_temp.sp_moved m WHERE m.relation = {name}"
    number = "to_jsonb(m.now)"
    run(
        connection,
        f"UPDATE pg_temp.sp_lines l SET line = jsonb_set(jsonb_set(l.line, ARRAY['key', {column}], {number}), "
        f"ARRAY['values', {column}], {number}) {moved} AND l.place = {place} AND l.line ->> 'relation' = m.relation "
        f"AND l.line -> 'key' ->> {column} = m.was",
    )
    run(
        connection,
        f"UPDATE pg_temp.sp_made x SET now = m.now FROM pg_temp.sp_moved m WHERE m.relation = {name} AND m.was = x.key "
        f"AND x.relation = m.relation AND x.place = {place} AND x.now IS NULL",
    )


def supersede(connection: Connection, table: Table, key: Sequence[str]) -> None:
    """Of one such row under several numbers a later rollback's line says what it is; and of one that was deleted, the
    row that took its place."""
    stands = _stands(connection, table)
    if stands is None:
        return
    for other in like_lines(table, key):
        run(
            connection,
            f"DELETE FROM pg_temp.sp_met m USING pg_temp.sp_stash a WHERE a.n = m.n AND {stands} AND EXISTS ("
            f"SELECT FROM pg_temp.sp_met o JOIN pg_temp.sp_stash b ON b.n = o.n WHERE {other} AND (b.place > a.place "
            f"OR b.place = a.place AND a.action = 'delete' AND b.action <> 'delete'))",
        )


def restore(connection: Connection, table: Table, key: Sequence[str], same: str) -> int:
    """See to it that of the lines `m` of `sp_met` that lead to such rows those come back that are not there: they are
    marked as `kept`. Gives how many deletions were done already.

    Args:
        same: whether a row `t` has all that a line says, beside its number.
    """
    stands, like = _stands(connection, table), like_one(table, key)
    if stands is None:
        return 0
    alone = f"{stands} AND {_alone(connection, table)}"
    done = run(connection, f"DELETE FROM pg_temp.sp_met m WHERE action = 'delete' AND {alone}")
    number = f"CASE WHEN tid IS NULL THEN vals ELSE vals || {_next(table, key)} END"
    run(
        connection,
        f"UPDATE pg_temp.sp_met m SET kept = true, tid = NULL, rel = NULL, vals = {number} WHERE {alone}",
    )
    if not like:
        return done
    beside = f"{stands} AND NOT kept"
    there = f"SELECT FROM {rows_of(table)} t WHERE ({like})"
    done += run(
        connection, f"DELETE FROM pg_temp.sp_met m WHERE action = 'delete' AND {beside} AND NOT EXISTS ({there})"
    )
    changed = f"m.action <> 'delete' AND {beside}"
    run(
        connection,
        f"UPDATE pg_temp.sp_met m SET tid = t.ctid, rel = t.tableoid, kept = true FROM {rows_of(table)} t "
        f"WHERE {changed} AND ({like}) AND NOT ({same})",
    )
    run(
        connection,
        f"UPDATE pg_temp.sp_met m SET tid = NULL, rel = NULL, vals = {number}, kept = true "
        f"WHERE {changed} AND NOT EXISTS ({there})",
    )
    run(connection, f"UPDATE pg_temp.sp_met m SET kept = true WHERE {changed}")
    return done


def _next(table: Table, key: Sequence[str]) -> str:
    """The number that a row gets whose own the migration has given away; nothing where its key is none."""
    column = table.by_name[key[0]] if len(key) == 1 else None
    if column is None or column.sequence is None:
        return "'{}'::jsonb"
    return f"jsonb_build_object({literal(column.name)}, nextval({literal(column.sequence)})::text)"
