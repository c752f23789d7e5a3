"""What goes into the stash: values of carried rows that the old table has no column for, and whole rows of tables that
it does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import format_lsn
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.replay.recovering import recovered
from safepoint.wayback.replay.staged import TRANSACTIONS, Sink, Truncation
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.too_large import KIND, LEFT, fits, row_fits
from safepoint.wayback.replay.unchanged import UNKNOWN, fill_last
from safepoint.wayback.replay.work import Scope, Work

# A commit's time comes as microseconds since 2000-01-01 (protocol-logicalrep-message-formats).
_WHEN = "(timestamptz '2000-01-01 00:00:00+00' + t.committed_us * interval '1 microsecond')"
TRUNCATE: Final = "truncate"
LSN = "('0/0'::pg_lsn + t.commit_lsn::numeric)"
TRANSACTION = f"t.xid::text::int8, {LSN}, {_WHEN}"
TOGETHER: Final = "(SELECT x.together FROM pg_temp.sp_excluded x WHERE x.tx = t.tx)"
_ENUMS = "SELECT u FROM unnest(%s::text[]) u JOIN pg_type t ON t.oid = to_regtype(u) WHERE t.typtype = 'e'"
_HASH = "hash_record_extended"
_NOWHERE = "NULL::int8"  # of a type that has no hash


def stash_values(connection: Connection, work: Work) -> int:
    """Values of carried rows that the old table has no column for, or of which a mapper may have kept a part only.

    With the latter goes what the mappers made of them: by it the next launch sees whether the row is what it was.
    """
    if not work.rule.kept or not work.rule.key:
        return 0
    home = [f"s.{quote(name)}" for name in work.sink.own if name not in work.rule.kept]
    values, made, out, which = as_object("s", work.rule.stash), "NULL", "", "true"
    fitting = row_fits(work.sink, "s", work.rule.kept)
    if work.rule.read:
        mapped = [rule.column for rule in work.rule.columns if rule.kind == "mapped"]
        texts = ", ".join(written(f"o.{quote(name)}") for name in mapped)
        made = f"jsonb_object(ARRAY[{', '.join(map(literal, mapped))}], ARRAY[{texts}])"
        out = f"JOIN {work.out} o ON o._sp_n = c.n "
        said = recovered(connection, work)
        values = f"CASE WHEN {said} THEN {values} ELSE {as_object('s', work.rule.kept)} END"
        which = "true" if work.rule.stash else f"NOT ({said})"
    if work.sink.unchanged:
        values = f"({values}) - coalesce((SELECT u.columns FROM {UNKNOWN} u WHERE u.at = c.n), '{{}}')"
    if work.sink.reread:  # what nobody wrote to is what the migration made
        which = f"({which}) AND c.n < {work.sink.reread}"
    rows = (
        f"FROM {work.change} c JOIN {work.stage} s ON s._sp_at = c.n {out}JOIN pg_temp.{TRANSACTIONS} t "
        f"ON t.tx = c.tx WHERE c.verdict IS NULL AND c.ends AND {which}"
    )
    if fitting != "true":
        reason = literal(f"{', '.join(work.rule.kept)}: {LEFT}")
        told = f"{literal(work.old.name)}, {written_key(work)}, {reason}, {TRANSACTION}"
        run(connection, f"INSERT INTO safepoint.dangling SELECT {told} {rows} AND NOT {fitting}")
    digest = witness(home) if not work.sink.bulky else f"CASE WHEN {fits(home)} THEN {witness(home)} END"
    return run(
        connection,
        f"INSERT INTO safepoint.stash SELECT {literal(work.new.name)}, c.op, {written_key(work)}, "
        f"{values}, {TRANSACTION}, {digest}, {made}, {place_of(connection, work)} {rows} AND {fitting}",
    )


def forget_older(
    connection: Connection, works: Sequence[Work], homeless: Sequence[Sink], scope: Scope, after: int
) -> None:
    """What an earlier replay stashed of a row that was changed since: only a row's last values are its stash.

    It is looked up, row by row: who follows a launch does so each second, and the stash grows for days. Where a replay
    is the only one, as with the site closed, it keeps no index up to date.
    """
    run(connection, "CREATE INDEX IF NOT EXISTS stash_place ON safepoint.stash (place)")
    aside = {row[0] for row in ask(connection, "SELECT DISTINCT relation FROM safepoint.put_aside")}
    for work in works:
        if not work.rule.kept and work.old.name not in aside:
            continue
        for one in scope.of(work):
            _forget_all(connection, one)
        if work.rule.key:
            # By the key's type: it may have been written otherwise then, 1.0 and not 1.00.
            same = " AND ".join(
                f"(s.key ->> {literal(new.name)})::{new.type} = c.k{place}" for place, (_, new) in enumerate(work.keys)
            )
            # A row that was kept whole is none of the twin's: what is done to it since is told behind it.
            same += " AND (s.whole IS NOT TRUE OR c.verdict IS NULL)"
            changes = f"{work.change} c"
            if work.sink.reread:
                changes = f"(SELECT * FROM {work.change} WHERE n < {work.sink.reread}) c"
            _forget(connection, work.new.name, after, changes, place_of(connection, work), same)
    for sink in homeless:
        if sink.table.key:
            keys = f"(SELECT DISTINCT {as_object('g', sink.table.key)} AS key FROM pg_temp.{sink.stage} g) c"
            _forget(connection, sink.table.name, after, keys, place_by("c.key"), "s.key = c.key")


def _forget(connection: Connection, relation: str, after: int, keys: str, place: str, same: str) -> None:
    """Forget what was stashed before of the rows of these keys. Casts are for keys of this table alone."""
    of_it = f"s.relation = {literal(relation)} AND s.commit_lsn <= {literal(format_lsn(after))}::pg_lsn"
    there = "s.place IS NULL" if place == _NOWHERE else f"s.place = {place}"
    older = f"SELECT s.ctid AS tid FROM safepoint.stash s WHERE {there} AND CASE WHEN {of_it} THEN {same} END OFFSET 0"
    run(
        connection,
        f"DELETE FROM safepoint.stash s WHERE s.ctid = ANY(ARRAY(SELECT f.tid FROM {keys} CROSS JOIN LATERAL "
        f"({older}) f))",
    )


def place_of(connection: Connection, work: Work, had: Sequence[str] = ()) -> str:
    """Where in the stash's index a change `c` is found: equal keys have the same place, however they are written.

    `had`: another key than that of the change, SQL for each of its columns.
    """
    types = [new.type for _, new in work.keys]
    enums = {row[0] for row in connection.execute(_ENUMS, [types]).fetchall()}  # by label: the twin may not know it
    keys = had or [f"c.k{place}" for place in range(len(types))]
    values = [f"{key}::text" if kind in enums else key for key, kind in zip(keys, types, strict=True)]
    try:
        with connection.transaction():
            run(connection, f"SELECT {_HASH}(ROW({', '.join(f'NULL::{kind}' for kind in types)}), 0)")
    except psycopg.ProgrammingError:
        return _NOWHERE
    return f"{_HASH}(ROW({', '.join(values)}), 0)"


def place_by(key: str) -> str:
    """The same of a row of a table that the old schema does not have, by its key as JSON."""
    return f"jsonb_hash_extended({key}, 0)"


def stash_table(connection: Connection, migrated: Connection, sink: Sink, scope: Scope) -> int:
    """The last state of each row of a table that the old schema does not have; of one that was emptied, what an earlier
    replay stashed is forgotten. `scope` may be of what transactions did that are put aside whole."""
    key = sink.table.key
    if sink.unchanged and key:
        fill_last(connection, migrated, sink, scope)
    condition = scope.counting("s") or "true"
    distinct = f"DISTINCT ON ({', '.join(f's.{quote(name)}' for name in key)})" if key else ""
    order = f"ORDER BY {', '.join([*(f's.{quote(name)}' for name in key), 's._sp_at DESC'])}" if key else ""
    last = {one.leaf: one for one in scope.truncations if one.table == sink.table.name}
    for one in last.values():
        condition += f" AND NOT (s._sp_leaf = {one.relation} AND s._sp_at < {one.at})"
    for one in () if scope.aside else last.values():  # else that is done, and told
        _forget_all(connection, one)
        _emptied(connection, one)
    action = "CASE WHEN s._sp_at & 3 = 2 THEN 'delete' WHEN s._sp_at & 3 = 1 THEN 'update' ELSE 'insert' END"
    place = place_by(as_object("s", key)) if key else _NOWHERE
    fitting = row_fits(sink, "s", sink.own)
    last_rows = (
        f"FROM (SELECT {distinct} * FROM pg_temp.{sink.stage} s WHERE {condition} {order}) s "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = s._sp_tx WHERE"
    )
    if fitting != "true" and scope.aside:
        run(connection, f"INSERT INTO pg_temp.sp_torn SELECT t.tx {last_rows} NOT {fitting}")
    elif fitting != "true":
        told = f"'{KIND}', {literal(LEFT)}, {as_object('s', key)}, '{{}}', {TRANSACTION}"
        into = f"INSERT INTO safepoint.put_aside SELECT {literal(sink.table.name)}, {action}, {told}"
        run(connection, f"{into} {last_rows} NOT {fitting}")
    return run(
        connection,
        f"INSERT INTO safepoint.stash SELECT {literal(sink.table.name)}, {action}, {as_object('s', key)}, "
        f"{as_object('s', sink.own)}, {TRANSACTION}, NULL, NULL, {place}, NULL, NULL, {leaf_of(sink)}, "
        f"{TOGETHER if scope.aside else 'NULL'} "
        f"{last_rows} {fitting}",
    )


def leaf_of(sink: Sink) -> str:
    """The partition of a staged row `s` by its name, as SQL."""
    whens = "".join(f" WHEN {oid} THEN {literal(name)}" for oid, name in sink.leaves.items())
    return f"CASE s._sp_leaf{whens} END" if whens else "NULL"


def stash_truncations(connection: Connection, work: Work, scope: Scope) -> None:
    """A table that the twin has was emptied: what an earlier launch had stashed of its rows is gone."""
    for one in scope.of(work):
        if one.leaf == work.new.name:
            _emptied(connection, one)


def _forget_all(connection: Connection, one: Truncation) -> None:
    emptied = f"{literal(one.leaf)} IN (relation, leaf)"
    run(connection, f"DELETE FROM safepoint.stash WHERE action <> '{TRUNCATE}' AND {emptied}")


def _emptied(connection: Connection, one: Truncation) -> None:
    run(
        connection,
        f"INSERT INTO safepoint.stash SELECT {literal(one.leaf)}, '{TRUNCATE}', '{{}}', '{{}}', {TRANSACTION} "
        f"FROM pg_temp.{TRANSACTIONS} t WHERE t.tx = {one.transaction}",
    )


def written_key(work: Work) -> str:
    """The key of a staged row, as it was written last."""
    return as_object("s", [new for _, new in work.rule.key])


def witness(values: Sequence[str]) -> str:
    """A digest of a row's values, SQL for each as the log writes it: by it a row is known to be what it was."""
    return f"md5(to_jsonb(ARRAY[{', '.join(values)}]::text[])::text)"


def as_object(row: str, columns: Sequence[str]) -> str:
    """Columns of a staged row, which are text, as a JSON object."""
    if not columns:
        return "'{}'::jsonb"
    names = ", ".join(literal(name) for name in columns)
    values = ", ".join(f"{row}.{quote(name)}" for name in columns)
    return f"jsonb_object(ARRAY[{names}], ARRAY[{values}])"
