"""A table's round trip by sums: both sides are hashed where they stand, and no row travels.

On one side the old table's values, on the other what the mapping makes of the migrated rows; the hash is the
fingerprint's (see `postgres.rows`). Equal sums mean the same rows with the same values. They never say that a table
differs: where they are unequal, or where a value cannot be computed on the migrated side as the twin would compute
it, each row is compared as before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.rows import RowColumn, content, hash_source, hashed_alike, read_columns
from safepoint.wayback.mapping import expressions
from safepoint.wayback.mapping.catalogue import Column
from safepoint.wayback.mapping.expressions import Casts, of_new, of_old, quote
from safepoint.wayback.mapping.mapping import ColumnRule
from safepoint.wayback.replay.compaction import projection, typed, unstaged
from safepoint.wayback.replay.work import Scope, Work, quoted, rows_of

Print = tuple[int, str]
"""Rows and content of a table, as its fingerprint has them."""

_INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
_TEXTS: Final = frozenset({"text", "character varying"})
# What is too long is refused by an INSERT, and cut off by a cast: also where no length is named in it.
_CUT: Final = frozenset({"character", "bit", "bit varying"})
# The staged row as a whole has more columns than the table's.
_WHOLE_ROW: Final = re.compile(r"\b(?:new|row_)\b(?!\s*\.\s*[\"\w])", re.IGNORECASE)
_VIEW: Final = "sp_mapped"

# Types that mean the same in both databases: PostgreSQL's own.
_OWN_TYPES: Final = """
SELECT count(*) FROM unnest(%s::text[]) t WHERE to_regtype(t) IS NULL OR to_regtype(t)::oid::int8 >= 16384
"""
# What a view over no table needs. PostgreSQL's own functions, operators and types are never listed.
_NEEDS: Final = """
SELECT count(*) FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE r.ev_class = 'pg_temp.sp_mapped'::regclass
  AND NOT (d.refclassid = 'pg_class'::regclass AND d.refobjid = r.ev_class)
"""


@dataclass(frozen=True)
class _Pair:
    """A value on either side, as SQL, and the type by whose rules both are hashed. `filled`: never NULL there."""

    old: str
    new: str
    type: str
    filled: tuple[bool, bool]


def rows_alike(
    connection: Connection,
    source: Connection,
    work: Work,
    casts: Casts,
    known: Print | None = None,
    *,
    jobs: int = 2,
) -> int | None:
    """How many rows the old table has, where every one of them comes back as it was; None where that is not known.

    Args:
        connection: the old database, in a transaction.
        source: the migrated database.
        casts: the old catalogue's.
        known: what the fingerprint says of the old table, which stands as it was then.
        jobs: with one, the two databases are read one after the other.
    """
    before = {one.name: one for one in read_columns(connection, quoted(work.old))}
    pairs = _pairs(connection, source, work, before, casts)
    if pairs is None:
        return None
    _, join = projection(work)
    theirs = _query(list(pairs.values()), 1, f"{rows_of(work.new)} new{join}")
    if known is not None and _as_it_stands(pairs, before):
        return known[0] if _sums(source, theirs) == known else None
    ours = _query(list(pairs.values()), 0, f"{rows_of(work.old)} old")
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="round-trip") as beside:
        found = beside.submit(_sums, source, theirs)
        if jobs == 1:
            wait([found])
        was, now = _sums(connection, ours), found.result()
    return None if was is None or was != now else was[0]


def _as_it_stands(pairs: Mapping[str, _Pair], before: Mapping[str, RowColumn]) -> bool:
    """Whether the old side is the whole old row, of which a fingerprint has the sums."""
    return list(pairs) == list(before) and all(
        pair.old == of_old(name) and hashed_alike(pair.type, before[name].type) for name, pair in pairs.items()
    )


def _sums(connection: Connection, query: sql.Composed) -> Print | None:
    """The count and both sums; None where a value cannot be computed. Only PostgreSQL's own names are found."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL search_path = pg_catalog")
            row = connection.execute(query).fetchone()
    except (psycopg.DataError, psycopg.ProgrammingError):
        return None
    return None if row is None else (int(row[0]), content(row[1], row[2]))


def _query(pairs: list[_Pair], side: int, source: str) -> sql.Composed:
    values = ", ".join(f"{pair.new if side else pair.old} AS c{place}" for place, pair in enumerate(pairs))
    columns = [RowColumn(f"c{place}", pair.type, pair.filled[side]) for place, pair in enumerate(pairs)]
    # OFFSET 0: what a mapper says is computed once a row.
    return hash_source(sql.SQL(f"(SELECT {values} FROM {source} OFFSET 0)"), columns, wide=True)


def _pairs(
    connection: Connection, source: Connection, work: Work, before: Mapping[str, RowColumn], casts: Casts
) -> dict[str, _Pair] | None:
    """What has to be equal for the table to be whole, by the old column; None where sums cannot tell."""
    types = sorted({column.type for table in (work.old, work.new) for column in table.columns})
    row = connection.execute(_OWN_TYPES, [types]).fetchone()
    if row is None or row[0]:
        return None
    after = {one.name: one for one in read_columns(source, quoted(work.new))}
    pairs = {rule.column: _pair(work, rule, before, after, casts) for rule in work.rule.columns if not _kept(rule)}
    named = {old for old, _ in work.rule.key} <= set(pairs)
    if not pairs or not named or None in pairs.values() or not _mean_the_same(connection, work):
        return None
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _kept(rule: ColumnRule) -> bool:
    """The twin's own value; of rows without a key nobody asks for it."""
    return rule.kind in ("restored", "none")


def _pair(
    work: Work, rule: ColumnRule, before: Mapping[str, RowColumn], after: Mapping[str, RowColumn], casts: Casts
) -> _Pair | None:
    old, own = work.old.by_name[rule.column], before[rule.column]
    element = old.base.removesuffix("[]")
    if rule.kind == "mapped" and element not in _CUT:
        kind = old.base if element in _TEXTS else old.type  # uncut
        return _Pair(of_old(old.name), f"m.{quote(old.name)}::{kind}", own.type, (own.filled, False))
    new = work.new.by_name.get(rule.new or "")
    if new is None:
        return None
    other = after[new.name]
    filled = (own.filled, other.filled)
    if rule.expression == of_new(new.name) and old.type == new.type:
        return _Pair(of_old(old.name), of_new(new.name), own.type, filled)
    if rule.kind != "retyped" or rule.expression != expressions.retyped(old, new, casts):
        return None
    return _retyped(work, old, new, filled, other.type, casts)


def _retyped(work: Work, old: Column, new: Column, filled: tuple[bool, bool], kind: str, casts: Casts) -> _Pair | None:
    if {old.base, new.base} <= _INTEGERS or {old.base, new.base} <= _TEXTS:
        return _Pair(of_old(old.name), of_new(new.name), kind, filled)
    if not work.keys or any(name == old.name for name, _ in work.rule.key):
        return None
    # The twin keeps its own value where the new one says the same in its type: see `expressions.retyped`.
    forth = expressions.cast(of_old(old.name), old.base, new.type, new.base, casts)
    return _Pair(forth, of_new(new.name), kind, filled)


def _mean_the_same(connection: Connection, work: Work) -> bool:
    """Whether the plan's own mappers say the same in either database: they need the row, and PostgreSQL's own names."""
    mapped = [rule for rule in work.rule.columns if rule.kind == "mapped"]
    if any(_WHOLE_ROW.search(rule.expression or "") for rule in mapped):
        return False
    if not mapped:
        return True
    _, join = projection(work)
    rows = typed(work, Scope((), frozenset(column.type for column in work.new.columns)), source=unstaged(work))
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL(f"CREATE TEMP VIEW {_VIEW} AS SELECT m.* FROM {rows} new{join}"))
            row = connection.execute(_NEEDS).fetchone()
    except (psycopg.DataError, psycopg.ProgrammingError):
        return False  # it asks for the twin's own row
    return row is not None and row[0] == 0
