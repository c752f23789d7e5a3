"""Rows that were put aside, kept for the next launch, whose schema can hold them: new ones whole, of changed ones what
was changed.

A new row is written again where its key is free then. A value of a changed one is set where the row still has the value
that it had here, so that nothing newer is overwritten: `was` says which.
"""

from __future__ import annotations

from collections.abc import Iterator

from safepoint.postgres.connections import Connection
from safepoint.wayback.expressions import Casts, cast, known, literal, quote, written
from safepoint.wayback.staged import TRANSACTIONS
from safepoint.wayback.stashing import LSN, TRANSACTION, as_object, leaf_of, place_of, written_key
from safepoint.wayback.statements import attempt, run
from safepoint.wayback.work import Work, rows_of

_NEW = "(c.op = 'insert' AND c.verdict <> 'conflict' AND c.row_tid IS NULL AND c.origin_tid IS NULL)"
# The twin never had the row: it may be one that an earlier rollback kept, and this launch had again.
_OF_KEPT = "(c.op IN ('update', 'delete') AND c.verdict = 'conflict' AND c.row_tid IS NULL)"
# It is there no longer, or another one has its key, of which not all is known, or which stays under another key.
_UNKNOWN = "(c.verdict = 'conflict' AND c.birth IS NOT NULL AND s._sp_unchanged IS NOT NULL)"
_GONE = f"(NOT c.ends OR c.origin_tid IS NOT NULL OR {_UNKNOWN})"
_CHANGED = "(c.op = 'update' AND c.verdict <> 'conflict' AND c.birth IS NULL)"


def keep(connection: Connection, work: Work, casts: Casts) -> None:
    """Write them into the stash, and mark them `kept`. Those of rows without a key are not kept, for nobody could find
    them again; nor are those of a transaction that is put aside whole, half of which could break what it kept.

    Args:
        casts: of the twin's server, see `Catalogue`.
    """
    if not work.rule.key:
        return
    place = place_of(connection, work)
    unknown = "CASE c.verdict WHEN 'conflict' THEN coalesce(s._sp_unchanged, '{}') ELSE '{}' END"
    values = f"CASE WHEN {_GONE} THEN '{{}}' ELSE {as_object('s', work.sink.own)} - {unknown} END"
    action = f"CASE WHEN {_GONE} THEN 'delete' ELSE c.op END"
    run(connection, f"{_into(work, action, values, 'NULL', place, 'true')} WHERE {_NEW} OR {_OF_KEPT}")
    # Each value of a changed row has to be one that can be compared with what stands there at the next launch.
    if all(rule.kind not in ("mapped", "remapped") for rule in work.rule.columns):
        attempt(connection, _changes(work, casts, place))
    run(
        connection,
        f"UPDATE {work.change} c SET kept = true FROM {work.stage} s, pg_temp.{TRANSACTIONS} t "
        f"WHERE s._sp_at = c.n AND t.tx = c.tx AND c.verdict IS NOT NULL AND ({written_key(work)}, {LSN}) IN ("
        f"SELECT k.key, k.commit_lsn FROM safepoint.stash k "
        f"WHERE k.relation = {literal(work.new.name)} AND (k.action = 'insert' OR NOT k.whole))",
    )


def _into(work: Work, action: str, values: str, was: str, place: str, whole: str) -> str:
    return (
        f"INSERT INTO safepoint.stash SELECT {literal(work.new.name)}, {action}, {written_key(work)}, {values}, "
        f"{TRANSACTION}, NULL, NULL, {place}, {whole}, {was}, {leaf_of(work.sink)} FROM {work.change} c "
        f"JOIN {work.stage} s ON s._sp_at = c.n JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx"
    )


def _changes(work: Work, casts: Casts, place: str) -> str:
    """What is new in changed rows: each column that is another than that of the twin's row `o`, as it would be in the
    new schema, and those that the old schema has not."""
    before = dict(_before(work, casts))
    names = [*before, *work.rule.stash]
    texts = ", ".join(before.values())
    was = f"jsonb_object(ARRAY[{', '.join(map(literal, before))}]::text[], ARRAY[{texts}]::text[])"
    changed = (
        "(SELECT jsonb_object_agg(v.key, v.value) AS vals FROM jsonb_each(k.vals) v "
        "WHERE v.value IS DISTINCT FROM k.was -> v.key)"
    )
    joined = (
        f" JOIN {rows_of(work.old)} o ON o.ctid = c.row_tid AND o.tableoid = c.row_rel "
        f"CROSS JOIN LATERAL (SELECT {as_object('s', names)} AS vals, {was} AS was OFFSET 0) k "
        f"CROSS JOIN LATERAL {changed} n"
    )
    return f"{_into(work, 'c.op', 'n.vals', 'k.was', place, 'false')}{joined} WHERE {_CHANGED} AND n.vals IS NOT NULL"


def _before(work: Work, casts: Casts) -> Iterator[tuple[str, str]]:
    """By new column what the twin's row `o` would have in it, as the log writes it."""
    keys = {new for _, new in work.rule.key}
    for rule in work.rule.columns:
        if rule.new is None or rule.new in keys or work.new.by_name[rule.new].generated:
            continue
        old, new = work.old.by_name[rule.column], work.new.by_name[rule.new]
        value = f"o.{quote(old.name)}"
        if rule.kind in ("same", "renamed"):
            yield new.name, written(value)
        elif rule.kind == "retyped" and known(new.base, casts):
            yield new.name, written(cast(value, old.base, new.type, new.base, casts))
