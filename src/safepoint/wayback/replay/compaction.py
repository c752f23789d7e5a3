"""From many staged changes to what each row has become: its last state by key, in the shape of the old table.

Two temporary tables for each old table: `sp_change_N` has a row for each key that was touched (what happens to it, and
to which row of the twin), `sp_out_N` the rows as the old schema will have them. Nothing of the twin is changed here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Column, Table
from safepoint.wayback.mapping.expressions import literal, of_new, quote
from safepoint.wayback.replay.crossing import left_partition
from safepoint.wayback.replay.emptied import took
from safepoint.wayback.replay.staged import Sink
from safepoint.wayback.replay.statements import ask, failing, run
from safepoint.wayback.replay.unchanged import fill_unchanged
from safepoint.wayback.replay.work import Scope, Work, quoted, rows_of

_INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
_TEXTS: Final = frozenset({"text", "character varying"})
_FEW: Final = 4  # an index is read for fewer rows than a part of this of the table

# What a row has become follows from the first and the last thing that was done to its key.
CHANGE_COLUMNS: Final = """
    t.n, t.tx, t.birth, t.existed, t.ends, o.ctid AS row_tid, o.tableoid AS row_rel,
    CASE WHEN t.birth IS NULL THEN o.ctid END AS origin_tid,
    CASE WHEN t.birth IS NULL THEN o.tableoid END AS origin_rel,
    CASE WHEN t.existed AND t.ends THEN 'update' WHEN t.existed THEN 'delete'
         WHEN t.ends THEN 'insert' ELSE 'none' END AS op,
    NULL::text AS verdict, NULL::text AS reason, false AS moved, false AS kept
"""
CONFLICTS: Final = """
UPDATE {change} SET verdict = 'conflict', reason = CASE WHEN row_tid IS NULL
    THEN 'the old database has no such row' ELSE 'the old database has such a row already' END
WHERE (existed AND row_tid IS NULL) OR (NOT existed AND ends AND row_tid IS NOT NULL)
"""


def untyped(connection: Connection, sink: Sink, names: Collection[str]) -> frozenset[str]:
    """Those of these columns in which an enum's value was staged that it does not have in the twin."""
    found = set[str]()
    for name in names:
        enum = f"to_regtype({literal(sink.table.by_name[name].type)})"
        unknown = (
            f"SELECT EXISTS (SELECT FROM pg_enum WHERE enumtypid = {enum}) "
            f"AND EXISTS (SELECT FROM pg_temp.{sink.stage} s WHERE NOT EXISTS "
            f"(SELECT FROM pg_enum WHERE enumtypid = {enum} AND enumlabel = s.{quote(name)}))"
        )
        if ask(connection, unknown)[0][0]:
            found.add(name)
    return frozenset(found)


def compact(connection: Connection, migrated: Connection, work: Work, scope: Scope) -> None:
    """Make both tables of an old table whose rows have a key."""
    find_touched(connection, migrated, work, scope)
    make_out(connection, work)
    insert_out(connection, work, _out_source(work, scope))
    if work.sink.reread:
        _leave_the_rest(connection, work)


def find_touched(connection: Connection, migrated: Connection, work: Work, scope: Scope) -> None:
    """Make the first of them, of keys; what is not in the log of their last rows is filled in."""
    _touch(connection, work, scope)
    if not scope.aside:  # of these no truncation is expanded: none of them is carried
        _expand_truncations(connection, work, scope)
    run(connection, CONFLICTS.format(change=work.change))
    if work.moves:
        _follow_moves(connection, work, scope)
    if work.sink.unchanged:
        fill_unchanged(connection, migrated, work, scope)


def _touch(connection: Connection, work: Work, scope: Scope) -> None:
    run(connection, f"DROP TABLE IF EXISTS {work.change}, {work.out}, pg_temp.sp_touch")
    names = ", ".join(f"t.k{place}" for place in range(len(work.keys)))
    run(
        connection,
        f"CREATE TEMP TABLE sp_change_{work.number} ON COMMIT DROP AS SELECT {CHANGE_COLUMNS}, {names} "
        f"FROM {_touched(connection, work, scope)} t {_twins_rows(connection, work)}",
    )
    run(connection, f"CREATE UNIQUE INDEX ON {work.change} (n)")
    run(connection, f"ANALYZE {work.change}")


def _touched(connection: Connection, work: Work, scope: Scope) -> str:
    """Each key once, with what was done to it first and last: a table, or a subquery where nothing is to be counted."""
    keys = ", ".join(f"{_key(old, new)} AS k{place}" for place, (old, new) in enumerate(work.keys))
    staged = f"{work.stage} s WHERE {scope.condition(work)}"
    if not work.sink.others and not scope.of(work):  # only new rows: each key came once
        born = "s._sp_at AS n, s._sp_tx AS tx, s._sp_at AS birth, false AS existed, true AS ends"
        return f"(SELECT {born}, {keys} FROM {staged})"
    names = ", ".join(f"k{place}" for place in range(len(work.keys)))
    run(
        connection,
        f"CREATE TEMP TABLE sp_touch ON COMMIT DROP AS "
        f"SELECT max(n) AS n, max(tx) AS tx, max(n) FILTER (WHERE n & 3 = 0 OR n & 3 = 3) AS birth, "
        f"min(n) & 3 IN (1, 2) AS existed, max(n) & 3 <> 2 AS ends, {names} "
        f"FROM (SELECT s._sp_at AS n, s._sp_tx AS tx, {keys} FROM {staged}) s GROUP BY {names}",
    )
    run(connection, "ANALYZE pg_temp.sp_touch")
    return "pg_temp.sp_touch"


def _key(old: Column, new: Column) -> str:
    """A staged row's key, typed. Where both databases take texts that are written otherwise for equal, so do we."""
    collation = f" COLLATE {old.collation}" if old.collation and new.collation else ""
    return f"s.{quote(new.name)}::{new.type}{collation}"


def _twins_rows(connection: Connection, work: Work) -> str:
    """The join of touched keys with the twin's rows: by its index, where they are few against the table.

    PostgreSQL would rather read the whole table: of eight million rows that takes seconds, and 200,000 look-ups in the
    index half of one. The site is closed meanwhile, and for how long must not depend on the size of the database.
    """
    match = " AND ".join(key_match(f"t.k{place}", old, new) for place, (old, new) in enumerate(work.keys))
    plain = f"LEFT JOIN {rows_of(work.old)} o ON {match}"
    indexed = {old.name for old, new in work.keys if "::text" not in key_match("t", old, new)} >= set(work.old.key)
    if not indexed or not work.old.key or not few(connection, work.stage, work.old):
        return plain
    if len(work.keys) == 1 and work.keys[0][0].base in _INTEGERS:
        # Most new rows have keys behind all that the twin has, and need no look.
        match += f" AND t.k0 <= (SELECT max({quote(work.keys[0][0].name)}) FROM {rows_of(work.old)})"
    return f"LEFT JOIN LATERAL (SELECT o.ctid, o.tableoid FROM {rows_of(work.old)} o WHERE {match} OFFSET 0) o ON true"


def few(connection: Connection, temporary: str, table: Table) -> bool:
    """Whether a temporary table, which has been analysed, has few rows against one of the twin's: then these are looked
    up by an index, one by one (`OFFSET 0` keeps PostgreSQL from making a join of it)."""
    if table.partitioned:
        return False
    # A table that inherits from it has its own indexes, or none: then each look-up could read that one whole.
    ((touched, rows, inherited),) = ask(
        connection,
        f"SELECT g.reltuples, t.reltuples, t.relhassubclass FROM pg_class g, pg_class t "
        f"WHERE g.oid = {literal(temporary)}::regclass AND t.oid = {literal(quoted(table))}::regclass",
    )
    return not inherited and bool(0 <= touched * _FEW <= rows)


def key_match(value: str, old: Column, new: Column) -> str:
    """How a key in the new type is compared with the old table's column, so that its index serves where it can."""
    column = f"o.{quote(old.name)}"
    if old.base == new.base or {old.base, new.base} <= _INTEGERS or {old.base, new.base} <= _TEXTS:
        return f"{column} = {value}"
    return f"{column}::text = {value}::text"


def _expand_truncations(connection: Connection, work: Work, scope: Scope) -> None:
    """A TRUNCATE is the deletion of every row that the twin has; a row that came after it replaces one of these."""
    for one in scope.of(work):
        leaf = f" AND {took(one, work, 'o.')}"
        run(
            connection,
            f"UPDATE {work.change} c SET existed = true, op = CASE WHEN ends THEN 'update' ELSE 'delete' END "
            f"FROM {rows_of(work.old)} o WHERE c.row_tid = o.ctid AND c.row_rel = o.tableoid AND NOT existed{leaf}",
        )
        names = ", ".join(f"k{place}" for place in range(len(work.keys)))
        keys = ", ".join(f"o.{quote(old.name)}::{new.type}" for old, new in work.keys)
        run(
            connection,
            f"INSERT INTO {work.change} (n, tx, existed, ends, row_tid, row_rel, op, moved, {names}) "
            f"SELECT (SELECT coalesce(min(n), 0) FROM {work.change} WHERE n < 0) - row_number() OVER (), "
            f"{one.transaction}, true, false, o.ctid, o.tableoid, 'delete', false, {keys} "
            f"FROM {rows_of(work.old)} o WHERE NOT EXISTS (SELECT FROM {work.change} c "
            f"WHERE c.row_tid = o.ctid AND c.row_rel = o.tableoid){leaf}",
        )


def _follow_moves(connection: Connection, work: Work, scope: Scope) -> None:
    """A row whose key was changed, perhaps several times: which row of the twin it was at the safe point.

    In between keys are compared as the log writes them; they are found by a digest, for as text (bytea has two digits a
    byte there) they may be longer than an index takes.
    """
    own = ", ".join(f"s.{quote(new.name)}" for _, new in work.keys)
    origin, across = ("s._sp_from", "") if not work.new.parted_by else _left_partition(work)
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_births")
    run(
        connection,
        f"CREATE TEMP TABLE sp_births ON COMMIT DROP AS SELECT s._sp_at AS at, {origin} AS origin, "
        f"ARRAY[{own}] AS key, md5(ARRAY[{own}]::text) AS digest FROM {work.stage} s{across} "
        f"WHERE s._sp_at & 3 IN (0, 3) AND {scope.condition(work)}",
    )
    run(connection, "CREATE INDEX ON pg_temp.sp_births (digest, at)")
    run(connection, "ANALYZE pg_temp.sp_births")
    match = " AND ".join(
        key_match(f"e.key[{place}]::{new.type}", old, new) for place, (old, new) in enumerate(work.keys, start=1)
    )
    run(
        connection,
        f"""
        WITH RECURSIVE chain AS (
            SELECT c.n, b.origin AS key, b.at FROM {work.change} c JOIN pg_temp.sp_births b ON b.at = c.birth
            WHERE b.origin IS NOT NULL
            UNION ALL
            SELECT c.n, b.origin, b.at FROM chain c CROSS JOIN LATERAL (
                SELECT b.origin, b.at FROM pg_temp.sp_births b
                WHERE b.digest = md5(c.key::text) AND b.key = c.key AND b.at < c.at ORDER BY b.at DESC LIMIT 1) b
        ), ends AS (SELECT DISTINCT ON (n) n, key FROM chain ORDER BY n, at)
        UPDATE {work.change} c SET origin_tid = o.ctid, origin_rel = o.tableoid
        FROM ends e JOIN {rows_of(work.old)} o ON {match} WHERE e.n = c.n
        """,
    )


def _left_partition(work: Work) -> tuple[str, str]:
    """An UPDATE that takes a row to another partition is a deletion, and next an insertion: the key of the former as
    SQL, and the join that finds it. By other columns than those that partitions go by they have the same key."""
    equal = {new.name: f"p.{quote(new.name)} = s.{quote(new.name)}" for _, new in work.keys}
    same = [f"({' OR '.join(equal.values())})", *(equal[name] for name in equal if name not in work.new.parted_by)]
    key = ", ".join(f"p.{quote(name)}" for name in equal)
    return (
        f"coalesce(s._sp_from, CASE WHEN p._sp_at IS NOT NULL THEN ARRAY[{key}] END)",
        left_partition(work, " AND ".join(same)),
    )


def _leave_the_rest(connection: Connection, work: Work) -> None:
    """Of a row that nobody touched only what mappers read is another: the rest is what the twin has, which may have
    been written to itself, or may lack what was put aside."""
    made = {f"({of_new(one.name)})" for one in work.new.columns if one.made}
    names = [
        quote(rule.column) for rule in work.rule.columns if rule.kind != "generated" and rule.expression not in made
    ]
    pairs = ", ".join(f"{name} = t.{name}" for name in names)
    run(
        connection,
        f"UPDATE {work.out} o SET {pairs} FROM {work.change} c JOIN {rows_of(work.old)} t "
        f"ON t.ctid = c.origin_tid AND t.tableoid = c.origin_rel WHERE c.n = o._sp_n AND c.n >= {work.sink.reread}",
    )


def make_out(connection: Connection, work: Work) -> None:
    """The empty table of rows in the old shape: its columns, generated ones too, without its constraints."""
    run(
        connection,
        f"CREATE TEMP TABLE sp_out_{work.number} (LIKE {quoted(work.old)} INCLUDING GENERATED, _sp_n int8) "
        f"ON COMMIT DROP",
    )
    strict = [f"ALTER {quote(column.name)} DROP NOT NULL" for column in work.old.columns if column.not_null]
    if strict:
        run(connection, f"ALTER TABLE {work.out} {', '.join(strict)}")


def typed(work: Work, scope: Scope, *, source: str | None = None) -> str:
    """The staged rows with their types: as a subquery, a type that the twin does not know staying text.

    `source`: has the stage's columns, where it is not the stage itself.
    """
    columns = [
        f"{quote(name)}::{column.type if column.type in scope.types else 'text'} AS {quote(name)}"
        for name in work.sink.columns
        for column in [work.new.by_name[name]]
    ]
    return f"(SELECT {', '.join(['_sp_at', '_sp_tx', *columns])} FROM {source or work.stage})"


def unstaged(work: Work) -> str:
    """A subquery like the stage, without a row: what can be said of it needs no table."""
    columns = "".join(f", NULL::text AS {quote(name)}" for name in work.sink.columns)
    return f"(SELECT NULL::int8 AS _sp_at, NULL::int4 AS _sp_tx{columns} WHERE false) s"


def projection(work: Work) -> tuple[str, str]:
    """The old columns as a SELECT list over `new` and `old`, and the join that the plan's own mappers need.

    A comma stands behind each: a table may have no column.
    """
    mapped = [rule for rule in work.rule.columns if rule.kind == "mapped"]
    values = [
        f"m.{quote(rule.column)}" if rule.kind == "mapped" else rule.expression or "NULL"
        for rule in work.rule.columns
        if rule.kind != "generated"
    ]
    join = ""
    if mapped:
        # Bare names of a mapper are the innermost row's, so it cannot be ambiguous; `old.x` is found further out.
        inner = ", ".join(f"{rule.expression} AS {quote(rule.column)}" for rule in mapped)
        join = f" LEFT JOIN LATERAL (SELECT {inner} FROM (SELECT new.*) row_) m ON true"
    return "".join(f"{value}, " for value in values), join


def targets(work: Work) -> str:
    """The old columns that are written, as a list; a comma stands behind each."""
    return "".join(f"{quote(rule.column)}, " for rule in work.rule.columns if rule.kind != "generated")


def _out_source(work: Work, scope: Scope) -> str:
    values, join = projection(work)
    twin = ""
    if work.rule.uses_twin and work.old.partitioned:
        twin = f" LEFT JOIN {rows_of(work.old)} old ON old.ctid = c.origin_tid AND old.tableoid = c.origin_rel"
    elif work.rule.uses_twin:  # each row by its place, and not all of them to find these
        rows = f"SELECT old.ctid, old.* FROM {rows_of(work.old)} old WHERE old.ctid = c.origin_tid OFFSET 0"
        twin = f" LEFT JOIN LATERAL ({rows}) old ON true"
    return (
        f"SELECT {values}c.n FROM {work.change} c JOIN {typed(work, scope)} new ON new._sp_at = c.n{twin}{join} "
        f"WHERE c.ends AND c.verdict IS NULL AND c.n > 0"
    )


def insert_out(connection: Connection, work: Work, source: str) -> None:
    """Fill the table of rows; a row whose values the old types cannot hold is put aside, the rest goes on."""
    statement = f"INSERT INTO {work.out} ({targets(work)}_sp_n) {source}"
    listing = f"SELECT n FROM {work.change} WHERE ends AND verdict IS NULL"
    for n, said in failing(connection, statement, listing, "c.n", f"pg_temp.{work.sink.rows_in} (_sp_at)"):
        connection.execute(sql.SQL(f"UPDATE {work.change} SET verdict = 'value', reason = %s WHERE n = %s"), [said, n])
    run(connection, f"CREATE UNIQUE INDEX ON {work.out} (_sp_n)")
    run(connection, f"ANALYZE {work.out}")
