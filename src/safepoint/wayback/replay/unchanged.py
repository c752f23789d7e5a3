"""Large values that an UPDATE left alone are not in the log: who knows them, in which order they are asked.

What was staged of the same row before has the value as it was then; else the twin's own row has it, where the column
is taken over as it is. Only what neither knows is looked up in the migrated database, which is further already:
the value may be of a transaction that is still to come, or that will be put aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.expressions import literal, quote, text_of
from safepoint.wayback.replay.filling import GONE, fill
from safepoint.wayback.replay.staged import DELETE, Sink
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import Scope, Work, rows_of

# `sp_told` has, of each staged row, the columns whose values are known without asking the migrated database.
_REST: Final = """
s._sp_unchanged IS NOT NULL AND EXISTS (SELECT FROM unnest(s._sp_unchanged) u(col)
    WHERE NOT EXISTS (SELECT FROM pg_temp.sp_told w WHERE w.at = s._sp_at AND w.col = u.col))
"""
UNKNOWN: Final = "pg_temp.sp_unknown"
"""After `fill_unchanged`: columns of staged rows whose values nobody knows, and that are only stashed."""


def fill_unchanged(connection: Connection, migrated: Connection, work: Work, scope: Scope) -> None:
    """Fill the values into the last state of each row; where nobody knows them any more, the row is a conflict."""
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_told")
    run(connection, "CREATE TEMP TABLE sp_told (at int8, col text, PRIMARY KEY (at, col)) ON COMMIT DROP")
    names = [name for (name,) in ask(connection, f"SELECT DISTINCT unnest(_sp_unchanged) FROM {work.stage} ORDER BY 1")]
    at_rest = _nothing_aside(connection, work)
    for name in names:
        run(connection, _by_the_stage(work, scope, name))
        if at_rest and (statement := _by_the_twin(work, name)) is not None:
            run(connection, statement)
    run(connection, "ANALYZE pg_temp.sp_told")
    if scope.excluding and not scope.aside:
        key = " AND ".join(f"e.{quote(new.name)}::{new.type} = c.k{place}" for place, (_, new) in enumerate(work.keys))
        run(
            connection,
            f"UPDATE {work.change} c SET verdict = 'conflict', reason = 'a large value was not in the log, and that of "
            f"the migrated database is of a transaction that was put aside' "
            f"FROM {work.stage} s WHERE s._sp_at = c.n AND c.verdict IS NULL AND {_REST} "
            f"AND {_overwritten(work.stage, key)}",
        )
    keys = [new.name for _, new in work.keys]
    key = ", ".join(f"s.{quote(name)}" for name in keys)
    wanted = (
        f"SELECT s._sp_at, {key} FROM {work.change} c JOIN {work.stage} s ON s._sp_at = c.n "
        f"WHERE {_REST} AND c.verdict IS NULL"
    )
    failed = fill(connection, migrated, work.sink, keys, wanted)
    _spare(connection, work)
    run(
        connection,
        f"UPDATE {work.change} SET verdict = 'conflict', reason = 'a large value was not in the log, and the migrated "
        f"database has the row no longer' WHERE n IN ({GONE}) AND n NOT IN (SELECT at FROM {UNKNOWN})",
    )
    for n, said in failed:
        connection.execute(sql.SQL(f"UPDATE {work.change} SET verdict = 'value', reason = %s WHERE n = %s"), [said, n])


def _spare(connection: Connection, work: Work) -> None:
    """Of a row that went with its partition nothing is lost to the old schema where it has no place for the value."""
    run(connection, "CREATE TEMP TABLE IF NOT EXISTS sp_unknown (at int8 PRIMARY KEY, columns text[]) ON COMMIT DROP")
    run(
        connection,
        f"INSERT INTO {UNKNOWN} SELECT s._sp_at, array_agg(u.col) FROM {work.stage} s "
        f"CROSS JOIN unnest(s._sp_unchanged) u(col) WHERE s._sp_at IN ({GONE}) "
        f"AND NOT EXISTS (SELECT FROM pg_temp.sp_told w WHERE w.at = s._sp_at AND w.col = u.col) "
        f"GROUP BY s._sp_at HAVING array_agg(u.col) <@ {literal(list(work.rule.stash))}::text[] "
        f"ON CONFLICT DO NOTHING",
    )


def distrust(connection: Connection, work: Work, made: Mapping[str, str]) -> None:
    """Put rows aside whose values mappers read where a transaction that is put aside has written: what it made of them
    and what others did nobody can tell apart. A value that the twin's row has still is nobody's doing.

    Args:
        made: by old column the new one that is the mapper's value.
    """
    texts = [(text_of(work.old.by_name[one], f"o.{quote(one)}"), f"s.{quote(other)}") for one, other in made.items()]
    differs = " OR ".join(["o.ctid IS NULL", *(f"{was} IS DISTINCT FROM {now}" for was, now in texts)])
    reason = literal("a mapper reads what a transaction that was put aside has written")
    run(
        connection,
        f"UPDATE {work.change} c SET verdict = 'conflict', reason = {reason} "
        f"FROM {work.change} g JOIN {work.stage} s ON s._sp_at = g.n LEFT JOIN {rows_of(work.old)} o "
        f"ON o.ctid = g.origin_tid AND o.tableoid = g.origin_rel "
        f"WHERE g.n = c.n AND c.ends AND c.verdict IS NULL AND ({differs})",
    )


def _by_the_stage(work: Work, scope: Scope, name: str) -> str:
    """By what the same row got before, in a transaction that counts; since it got its key, if it did meanwhile."""
    keys = [quote(new.name) for _, new in work.keys]
    same = " AND ".join(f"k.{key} = s.{key}" for key in keys)
    value = quote(name)
    return f"""
        WITH known AS MATERIALIZED (
            SELECT {", ".join(f"s.{key}" for key in keys)}, max(s._sp_at) AS at FROM {work.stage} s
            WHERE s._sp_at & 3 <> {DELETE} AND NOT coalesce({literal(name)} = ANY(s._sp_unchanged), false)
              AND {scope.condition(work)}
            GROUP BY {", ".join(f"s.{key}" for key in keys)}
        ), told AS (
            UPDATE {work.stage} s SET {value} = v.{value}
            FROM {work.change} c JOIN {work.stage} l ON l._sp_at = c.n
            JOIN known k ON {same.replace("s.", "l.")} AND k.at >= coalesce(c.birth, 0)
            JOIN {work.stage} v ON v._sp_at = k.at
            WHERE s._sp_at = l._sp_at AND c.verdict IS NULL AND {literal(name)} = ANY(l._sp_unchanged)
            RETURNING s._sp_at
        )
        INSERT INTO pg_temp.sp_told SELECT _sp_at, {literal(name)} FROM told
    """


def _by_the_twin(work: Work, name: str) -> str | None:
    """By the twin's own row, which is as the transactions before left it; None where it has another value."""
    taken = [rule.column for rule in work.rule.columns if rule.kind in ("same", "renamed") and rule.new == name]
    if len(taken) != 1:
        return None
    old, new = work.old.by_name[taken[0]], work.new.by_name[name]
    if (old.type, old.base, old.collation) != (new.type, new.base, new.collation):
        return None
    return f"""
        WITH told AS (
            UPDATE {work.stage} s SET {quote(name)} = {text_of(old, f"t.{quote(old.name)}")}
            FROM {work.change} c JOIN {rows_of(work.old)} t ON t.ctid = c.row_tid AND t.tableoid = c.row_rel
            WHERE c.n = s._sp_at AND c.verdict IS NULL AND c.birth IS NULL AND {literal(name)} = ANY(s._sp_unchanged)
              AND NOT EXISTS (SELECT FROM pg_temp.sp_told w WHERE w.at = s._sp_at AND w.col = {literal(name)})
            RETURNING s._sp_at
        )
        INSERT INTO pg_temp.sp_told SELECT _sp_at, {literal(name)} FROM told
    """


def _nothing_aside(connection: Connection, work: Work) -> bool:
    """Whether no earlier replay put rows of this table aside: what they had been is not what the twin has."""
    return not ask(
        connection, f"SELECT EXISTS (SELECT FROM safepoint.put_aside WHERE relation = {literal(work.old.name)})"
    )[0][0]


def fill_last(connection: Connection, migrated: Connection, sink: Sink, scope: Scope) -> None:
    """The same for the last state of each row of a table that is stashed whole; what nobody knows is left NULL."""
    stage, key = f"pg_temp.{sink.stage}", ", ".join(quote(name) for name in sink.table.key)
    counting, known = scope.counting("l") or "true", "true"
    if scope.excluding and not scope.aside:
        same = " AND ".join(f"e.{quote(name)} = s.{quote(name)}" for name in sink.table.key)
        known = f"NOT {_overwritten(stage, same)}"
    wanted = (
        f"SELECT _sp_at, {key} FROM (SELECT DISTINCT ON ({key}) * FROM {stage} l WHERE {counting} "
        f"ORDER BY {key}, _sp_at DESC) s WHERE _sp_unchanged IS NOT NULL AND {known}"
    )
    fill(connection, migrated, sink, list(sink.table.key), wanted)


def _overwritten(stage: str, same_key: str) -> str:
    """Whether what the log has not of a row `s` was written by a transaction that is put aside, and that came later.

    Nothing but EXISTS: then PostgreSQL makes a join of it, with or without a NOT before it.
    """
    return (
        f"EXISTS (SELECT FROM {stage} e JOIN pg_temp.sp_excluded x ON x.tx = e._sp_tx "
        f"WHERE {same_key} AND e._sp_at > s._sp_at AND NOT coalesce(e._sp_unchanged @> s._sp_unchanged, false))"
    )
