"""Stashed values for which the next launch's schema has less room than the one that they were written to: a name that
would be cut, an amount that would be rounded. PostgreSQL's casts do so without a word; here they are told.

`pg_temp.sp_stash` holds what is to be attached, `pg_temp.sp_left` takes what cannot be: see `attaching`.
"""

from __future__ import annotations

from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.replay.statements import failing, run
from safepoint.wayback.replay.work import quoted

NARROWER: Final = "it would not come back as it was: the column holds less now"
# A domain's modifier is that of the type that it is of.
_TYPES: Final = """
WITH RECURSIVE d(name, type, modifier) AS (
    SELECT attname::text, atttypid, atttypmod FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    UNION ALL
    SELECT d.name, t.typbasetype, t.typtypmod FROM d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd')
SELECT d.name, format_type(d.type, NULL), d.modifier <> -1
FROM d JOIN pg_type t ON t.oid = d.type WHERE t.typtype <> 'd'
"""
# What a value is compared as, by its type without a modifier: `character` and `bit` alone would be of one place.
_LIMITED: Final = {
    "character varying": "text",
    "character": "bpchar",
    "numeric": "numeric",
    "bit": "bit varying",
    "bit varying": "bit varying",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "interval": "interval",
}
_ALWAYS: Final = {"date": "::timestamp", "real": "::text::numeric", "double precision": "::text::numeric"}


def tell_narrowed(connection: Connection, table: Table) -> None:
    """Take them out of what is to be attached: the value, or the row where it comes back whole or not at all."""
    types = connection.execute(_TYPES, [quoted(table)]).fetchall()
    for name, base, limited in types:
        bare, dimensions = base.removesuffix("[]"), "[]" if base.endswith("[]") else ""
        if bare in _LIMITED and limited:
            _tell(connection, table, name, f"::{_LIMITED[bare]}{dimensions}")
        elif base in _ALWAYS:
            _tell(connection, table, name, _ALWAYS[base])


def _tell(connection: Connection, table: Table, name: str, wide: str) -> None:
    said, value = literal(name), f"s.vals ->> {literal(name)}"
    which = f"s.relation = {literal(table.name)} AND s.action <> 'delete' AND s.bad IS NULL AND s.vals ? {said}"
    run(connection, "CREATE TEMP TABLE sp_narrowed (n int8) ON COMMIT DROP")
    # What is no value of the type at all is told when it is written.
    failing(
        connection,
        f"INSERT INTO pg_temp.sp_narrowed SELECT s.n FROM pg_temp.sp_stash s WHERE {which} "
        f"AND ({value})::{table.by_name[name].type}{wide} IS DISTINCT FROM ({value}){wide}",
        f"SELECT n FROM pg_temp.sp_stash s WHERE {which}",
        "s.n",
    )
    reason = literal(f"{NARROWER} ({quote(name)} is {table.by_name[name].type})")
    those = "s.n IN (SELECT n FROM pg_temp.sp_narrowed)"
    run(
        connection,
        f"UPDATE pg_temp.sp_stash s SET bad = {reason} WHERE {those} AND (s.whole OR coalesce(s.was ? {said}, false))",
    )
    run(
        connection,
        f"INSERT INTO pg_temp.sp_left SELECT s.relation, s.key, {said}, {reason}, {value} "
        f"FROM pg_temp.sp_stash s WHERE {those} AND s.bad IS NULL",
    )
    run(connection, f"UPDATE pg_temp.sp_stash s SET vals = s.vals - {said} WHERE {those} AND s.bad IS NULL")
    run(connection, "DROP TABLE pg_temp.sp_narrowed")
