"""Rows that were put aside, kept for the next launch, whose schema can hold them: new ones whole, of changed ones what
was changed, of deleted ones that they were.

A new row is written again where its key is free then. A value of a changed one is set where the row still has the value
that it had here, so that nothing newer is overwritten: `was` says which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.expressions import ID_TABLES, Casts, cast, known, literal, quote, written
from safepoint.wayback.mapping.mapping import ColumnRule
from safepoint.wayback.replay.staged import TRANSACTIONS
from safepoint.wayback.replay.stashing import LSN, TOGETHER, TRANSACTION, as_object, leaf_of, place_of, written_key
from safepoint.wayback.replay.statements import ask, attempt, run
from safepoint.wayback.replay.too_large import row_fits
from safepoint.wayback.replay.work import Work, rows_of

_NEW = "(c.op = 'insert' AND c.verdict <> 'conflict' AND c.row_tid IS NULL AND c.origin_tid IS NULL)"
# The twin never had the row: it may be one that an earlier rollback kept, and this launch had again.
_OF_KEPT = "(c.op IN ('update', 'delete') AND c.verdict = 'conflict' AND c.row_tid IS NULL)"
# It is there no longer, or another one has its key, of which not all is known, or which stays under another key.
_UNKNOWN = "(c.verdict = 'conflict' AND c.birth IS NOT NULL AND s._sp_unchanged IS NOT NULL)"
_GONE = f"(NOT c.ends OR c.origin_tid IS NOT NULL OR {_UNKNOWN})"
_CHANGED = "(c.op = 'update' AND c.verdict <> 'conflict' AND (c.birth IS NULL OR c.origin_tid IS NULL))"
_DELETED = "(c.op = 'delete' AND c.verdict <> 'conflict')"
_THERE = "o.ctid = c.row_tid AND o.tableoid = c.row_rel"
_ITS_ORIGIN = "o.ctid = c.origin_tid AND o.tableoid = c.origin_rel"


def keep(connection: Connection, work: Work, casts: Casts, *, together: bool = False) -> None:
    """Write them into the stash, and mark them `kept`. Of rows without a key only new ones are kept, for nobody could
    find another one again.

    Args:
        casts: of the twin's server, see `Catalogue`.
        together: they are of transactions that are put aside whole, see `held_whole`.
    """
    if not work.rule.key:
        _keep_keyless(connection, work)
        return
    into = _Into(work, together)
    place = place_of(connection, work)
    unknown = "CASE c.verdict WHEN 'conflict' THEN coalesce(s._sp_unchanged, '{}') ELSE '{}' END"
    values = f"CASE WHEN {_GONE} THEN '{{}}' ELSE {as_object('s', work.sink.own)} - {unknown} END"
    action = f"CASE WHEN {_GONE} THEN 'delete' ELSE c.op END"
    fitting = row_fits(work.sink, "s", work.sink.own)
    run(connection, f"{into.stash(action, values, 'NULL', place, 'true')} WHERE ({_NEW} OR {_OF_KEPT}) AND {fitting}")
    before = dict(_before(work, casts))
    attempt(connection, _changes(work, into, before, place, _earlier(connection, work, place), casts))
    attempt(connection, _deletions(work, into, before, place))
    if work.moves:
        _keep_moved(connection, work, into, before, casts)
    # Else it is taken for a few lines, and read once for each row that was put aside.
    run(connection, "ANALYZE safepoint.stash (relation, action, key, commit_lsn, whole)")
    run(
        connection,
        f"UPDATE {work.change} c SET kept = true FROM {work.stage} s, pg_temp.{TRANSACTIONS} t "
        f"WHERE s._sp_at = c.n AND t.tx = c.tx AND c.verdict IS NOT NULL AND ({written_key(work)}, {LSN}) IN ("
        f"SELECT k.key, k.commit_lsn FROM safepoint.stash k "
        f"WHERE k.relation = {literal(work.new.name)} AND (k.action = 'insert' OR NOT k.whole))",
    )
    # Of a row that a stash has whole, this launch's or one that waits again, what is done to it comes back with it.
    run(
        connection,
        f"UPDATE {work.change} c SET kept = true FROM {work.stage} s WHERE s._sp_at = c.n AND {_OF_KEPT} "
        f"AND {written_key(work)} IN (SELECT k.key FROM safepoint.stash k "
        f"WHERE k.relation = {literal(work.new.name)} AND k.whole AND k.action = 'insert' UNION ALL "
        f"SELECT w.key FROM pg_temp.sp_waiting w WHERE w.relation = {literal(work.new.name)})",
    )


def _keep_moved(connection: Connection, work: Work, into: _Into, before: Mapping[str, str], casts: Casts) -> None:
    """Rows that got another key, by the one that they had: the next launch's row has that."""
    keys = {
        str(rule.new): _in_new(work, rule, casts)
        for rule in work.rule.columns
        if (rule.column, rule.new) in work.rule.key
    }
    known_keys = {name: text for name, text in keys.items() if text is not None}
    if len(known_keys) < len(keys):
        return
    had = [f"({known_keys[new.name]})::{new.type}" for _, new in work.keys]
    place = place_of(connection, work, had)
    if attempt(connection, _changes(work, into, {**known_keys, **before}, place, "false", casts, moved=known_keys)):
        return
    # The key that such a row has left is no deletion.
    left = f"SELECT c.origin_tid, c.origin_rel FROM {work.change} c WHERE {_moved(work)}"
    run(
        connection,
        f"UPDATE {work.change} c SET kept = true "
        f"WHERE {_moved(work)} OR (c.op = 'delete' AND (c.row_tid, c.row_rel) IN ({left}))",
    )


def _moved(work: Work) -> str:
    """Whether a change is that of a row that got another key: no new row has the one that it left, and whose key it got
    has another one, too, and is not gone."""
    left = f"SELECT FROM {work.change} m WHERE m.row_tid = c.origin_tid AND m.row_rel = c.origin_rel"
    went = f"SELECT FROM {work.change} m WHERE m.origin_tid = c.row_tid AND m.origin_rel = c.row_rel"
    return (
        "(c.ends AND c.birth IS NOT NULL AND c.origin_tid IS NOT NULL AND c.verdict <> 'conflict' "
        f"AND NOT EXISTS ({left} AND m.ends AND m.origin_tid IS NULL) "
        f"AND (c.row_tid IS NULL OR EXISTS ({went} AND m.ends)))"
    )


def _keep_keyless(connection: Connection, work: Work) -> None:
    """New rows; and of such a one that a stash has, an earlier replay's or one that waits again, that it is gone: they
    are counted when they come back."""
    values, relation = as_object("s", work.sink.own), literal(work.new.name)
    known = (
        f"c.op = 'delete' AND c.verdict = 'conflict' AND {values} IN (SELECT k.values FROM safepoint.stash k "
        f"WHERE k.relation = {relation} AND k.key = '{{}}' AND k.action = 'insert' UNION ALL "
        f"SELECT w.key FROM pg_temp.sp_waiting w WHERE w.relation = {relation})"
    )
    # In this order: of what is too large nothing is made.
    which = f"CASE WHEN {row_fits(work.sink, 's', work.sink.own)} THEN ({_NEW} OR {known}) ELSE false END"
    run(connection, f"UPDATE {work.change} c SET kept = true FROM {work.stage} s WHERE s._sp_at = c.source AND {which}")
    line = _Into(work, together=False).stash("c.op", values, "NULL", "NULL::int8", "true")
    run(connection, f"{line} WHERE c.kept")


def read_waiting(connection: Connection, stashes: Sequence[Path]) -> None:
    """Make `sp_waiting`: the rows that other launches' stashes have whole, by key, or where there is none by values."""
    run(connection, "CREATE TEMP TABLE sp_waiting (relation text, key jsonb) ON COMMIT DROP")
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_waiting FROM STDIN") as copy:
        for one in stashes:
            for relation, key in _whole_rows(one):
                copy.write_row((relation, key))
    run(connection, "ANALYZE pg_temp.sp_waiting")


def _whole_rows(stash: Path) -> Iterator[tuple[str, str]]:
    """What cannot be read is told when it is to come back, and must not hold up a rollback."""
    with suppress(OSError, ValueError, KeyError), stash.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            if line.get("whole") and line["action"] == "insert":
                yield str(line["relation"]), json.dumps(line["key"] or line["values"])


@dataclass(frozen=True)
class _Into:
    """Where lines go, and what all of them have."""

    work: Work
    together: bool

    def stash(
        self, action: str, values: str, was: str, place: str, whole: str, mapped: str = "NULL", key: str | None = None
    ) -> str:
        work = self.work
        return (
            f"INSERT INTO safepoint.stash SELECT {literal(work.new.name)}, {action}, {key or written_key(work)}, "
            f"{values}, {TRANSACTION}, NULL, {mapped}, {place}, {whole}, {was}, {leaf_of(work.sink)}, "
            f"{TOGETHER if self.together else 'NULL'} FROM {work.change} c "
            f"JOIN {work.stage} s ON s._sp_at = {work.staged_at} JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx"
        )


def _deletions(work: Work, into: _Into, before: Mapping[str, str], place: str) -> str:
    """Rows that are not there any more in the new schema, with what they had in the twin. One that got another key is
    none of them."""
    gone = f"SELECT FROM {work.change} m WHERE m.origin_tid = c.row_tid AND m.origin_rel = c.row_rel AND m.n <> c.n"
    moved = f" AND NOT EXISTS ({gone} AND m.ends)" if work.moves else ""
    twins = f" JOIN {rows_of(work.old)} o ON {_THERE}"
    line = into.stash("'delete'", "'{}'", _was(before), place, "false", _mapped(work))
    return f"{line}{twins} WHERE {_DELETED}{moved}"


def _was(before: Mapping[str, str]) -> str:
    names, texts = ", ".join(map(literal, before)), ", ".join(before.values())
    return f"jsonb_object(ARRAY[{names}]::text[], ARRAY[{texts}]::text[])"


def _mapped(work: Work) -> str:
    """What the twin's row `o` has in columns that mappers make, which the next launch's row has to give again."""
    names = [rule.column for rule in work.rule.columns if rule.kind == "mapped"]
    return _was({name: written(f"o.{quote(name)}") for name in names}) if names else "NULL"


def _earlier(connection: Connection, work: Work, place: str) -> str:
    """Whether the stash has a value of a column `v` already, of a change before this one that was put aside by itself:
    what came back to what it was is new against that."""
    lines = f"SELECT FROM safepoint.stash e WHERE e.relation = {literal(work.new.name)} AND e.whole IS FALSE"
    if not ask(connection, f"SELECT EXISTS ({lines})")[0][0]:
        return "false"
    run(connection, "CREATE INDEX IF NOT EXISTS stash_place ON safepoint.stash (place)")
    return f"EXISTS ({lines} AND e.place = {place} AND e.key = {written_key(work)} AND e.values ? v.key)"


def _changes(
    work: Work,
    into: _Into,
    before: Mapping[str, str],
    place: str,
    earlier: str,
    casts: Casts,
    moved: Mapping[str, str] | None = None,
) -> str:
    """What is new in changed rows: each column that is another than that of the twin's row `o`, as it would be in the
    new schema, and those that the old schema has not, or only by what a mapper makes of them. `moved`: of rows that got
    another key, the one that they had."""
    those, there = (_CHANGED, _THERE) if moved is None else (_moved(work), _ITS_ORIGIN)
    keys = {new for _, new in work.rule.key}
    names = [*before, *(name for name in work.sink.own if name not in before and name not in keys)]
    changed = (
        "(SELECT jsonb_object_agg(v.key, v.value) AS vals FROM jsonb_each(k.vals) v "
        f"WHERE v.value IS DISTINCT FROM k.was -> v.key OR {earlier})"
    )
    joined = (
        f" JOIN {rows_of(work.old)} o ON {there} "
        f"CROSS JOIN LATERAL (SELECT {as_object('s', names)} AS vals, {_was(before)} AS was OFFSET 0) k "
        f"CROSS JOIN LATERAL {changed} n"
    )
    # What has nothing to get keeps no transaction from being kept.
    values, which = (
        ("coalesce(n.vals, '{}')", those) if into.together else ("n.vals", f"{those} AND n.vals IS NOT NULL")
    )
    # A key that is spelled otherwise (-0 for 0) would keep the spelling of the row that was there before.
    again = "true" if moved else f"(c.birth IS NULL OR {' AND '.join(_spelled_alike(work, casts))})"
    if work.sink.reread:
        which += f" AND c.n < {work.sink.reread}"  # nobody wrote to the others
    key = None if moved is None else _was(moved)
    line = into.stash("'update'", values, "k.was", place, "false", _mapped(work), key)
    return f"{line}{joined} WHERE {which} AND {again}"


def _spelled_alike(work: Work, casts: Casts) -> Iterator[str]:
    for rule in work.rule.columns:
        if rule.new is not None and (rule.column, rule.new) in work.rule.key:
            yield f"{_in_new(work, rule, casts) or 'NULL'} = s.{quote(rule.new)}"


def _homes(work: Work) -> Iterator[ColumnRule]:
    """The columns that stand in both schemas, but for the key's."""
    keys = {new for _, new in work.rule.key}
    for rule in work.rule.columns:
        if rule.new is not None and rule.new not in keys and not work.new.by_name[rule.new].generated:
            yield rule


def _before(work: Work, casts: Casts) -> Iterator[tuple[str, str]]:
    """By new column what the twin's row `o` would have in it, as the log writes it."""
    for rule in _homes(work):
        text = _in_new(work, rule, casts)
        if text is not None:
            yield str(rule.new), text


def _in_new(work: Work, rule: ColumnRule, casts: Casts) -> str | None:
    """The twin's value as it would be in the new column; None where no one knows."""
    old, new = work.old.by_name[rule.column], work.new.by_name[str(rule.new)]
    value = f"o.{quote(old.name)}"
    if rule.kind == "remapped":
        ids = f"pg_temp.{ID_TABLES[str(rule.home).partition('.')[2]]} ids WHERE ids.home = {literal(str(rule.home))}"
        same = f"SELECT min(ids.new) FROM {ids} AND ids.old = {value} HAVING count(*) = 1"
        return f"(SELECT {written('i.id')} FROM ({same}) i(id))"
    if rule.kind in ("same", "renamed", "generated") or (rule.kind == "retyped" and not known(new.base, casts)):
        return written(value)  # a type that the twin's server does not know is compared as text
    return written(cast(value, old.base, new.type, new.base, casts)) if rule.kind == "retyped" else None
