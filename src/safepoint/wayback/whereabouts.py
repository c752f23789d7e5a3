"""Where every captured change went: stashed, put aside, carried; row by row and transaction by transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.postgres.masking import without_secrets
from safepoint.postgres.pgoutput import format_lsn
from safepoint.wayback.catalogue import Table
from safepoint.wayback.expressions import literal, quote, written
from safepoint.wayback.outcome import Aside
from safepoint.wayback.recovering import recovered
from safepoint.wayback.staged import MISSED, TRANSACTIONS, Sink, Truncation
from safepoint.wayback.statements import ask, run
from safepoint.wayback.unchanged import fill_last
from safepoint.wayback.work import Scope, Work

# A commit's time comes as microseconds since 2000-01-01 (protocol-logicalrep-message-formats).
_WHEN = "(timestamptz '2000-01-01 00:00:00+00' + t.committed_us * interval '1 microsecond')"
_LSN = "('0/0'::pg_lsn + t.commit_lsn::numeric)"
TRANSACTION = f"t.xid::text::int8, {_LSN}, {_WHEN}"
_ENUMS = "SELECT u FROM unnest(%s::text[]) u JOIN pg_type t ON t.oid = to_regtype(u) WHERE t.typtype = 'e'"
_HASH = "hash_record_extended"
_NOWHERE = "NULL::int8"  # of a type that has no hash


def stash_values(connection: Connection, work: Work) -> int:
    """Values of carried rows that the old table has no column for, or of which a mapper may have kept a part only.

    With the latter goes what the mappers made of them: by it the next launch sees whether the row is what it was.
    """
    if not work.rule.kept or not work.rule.key:
        return 0
    home = [f"s.{quote(name)}" for name in work.sink.columns if name not in work.rule.kept]
    values, made, out, which = _object("s", work.rule.stash), "NULL", "", "true"
    if work.rule.read:
        mapped = [rule.column for rule in work.rule.columns if rule.kind == "mapped"]
        texts = ", ".join(written(f"o.{quote(name)}") for name in mapped)
        made = f"jsonb_object(ARRAY[{', '.join(map(literal, mapped))}], ARRAY[{texts}])"
        out = f"JOIN {work.out} o ON o._sp_n = c.n "
        said = recovered(connection, work)
        values = f"CASE WHEN {said} THEN {values} ELSE {_object('s', work.rule.kept)} END"
        which = "true" if work.rule.stash else f"NOT ({said})"
    return run(
        connection,
        f"INSERT INTO safepoint.stash SELECT {literal(work.new.name)}, c.op, {_written_key(work)}, "
        f"{values}, {TRANSACTION}, {witness(home)}, {made}, {_place(connection, work)} FROM {work.change} c "
        f"JOIN {work.stage} s ON s._sp_at = c.n {out}JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx "
        f"WHERE c.verdict IS NULL AND c.ends AND {which}",
    )


def forget_older(connection: Connection, works: Sequence[Work], homeless: Sequence[Sink], after: int) -> None:
    """What an earlier replay stashed of a row that was changed since: only a row's last values are its stash.

    It is looked up, row by row: who follows a launch does so each second, and the stash grows for days. Where a replay
    is the only one, as with the site closed, it keeps no index up to date.
    """
    run(connection, "CREATE INDEX IF NOT EXISTS stash_place ON safepoint.stash (place)")
    for work in works:
        if work.rule.key and work.rule.kept:
            # By the key's type: it may have been written otherwise then, 1.0 and not 1.00.
            same = " AND ".join(
                f"(s.key ->> {literal(new.name)})::{new.type} = c.k{place}" for place, (_, new) in enumerate(work.keys)
            )
            _forget(connection, work.new.name, after, f"{work.change} c", _place(connection, work), same)
    for sink in homeless:
        if sink.table.key:
            keys = f"(SELECT DISTINCT {_object('g', sink.table.key)} AS key FROM pg_temp.{sink.stage} g) c"
            _forget(connection, sink.table.name, after, keys, _place_of("c.key"), "s.key = c.key")


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


def _place(connection: Connection, work: Work) -> str:
    """Where in the stash's index a change `c` is found: equal keys have the same place, however they are written."""
    types = [new.type for _, new in work.keys]
    enums = {row[0] for row in connection.execute(_ENUMS, [types]).fetchall()}  # by label: the twin may not know it
    values = [f"c.k{place}::text" if kind in enums else f"c.k{place}" for place, kind in enumerate(types)]
    try:
        with connection.transaction():
            run(connection, f"SELECT {_HASH}(ROW({', '.join(f'NULL::{kind}' for kind in types)}), 0)")
    except psycopg.ProgrammingError:
        return _NOWHERE
    return f"{_HASH}(ROW({', '.join(values)}), 0)"


def _place_of(key: str) -> str:
    return f"jsonb_hash_extended({key}, 0)"


def stash_table(connection: Connection, migrated: Connection, sink: Sink, scope: Scope) -> int:
    """The last state of each row of a table that the old schema does not have."""
    key = sink.table.key
    if sink.unchanged and key:
        fill_last(connection, migrated, sink, scope)
    condition = "true"
    if scope.excluding:
        condition = "NOT EXISTS (SELECT FROM pg_temp.sp_excluded x WHERE x.tx = s._sp_tx)"
    distinct = f"DISTINCT ON ({', '.join(f's.{quote(name)}' for name in key)})" if key else ""
    order = f"ORDER BY {', '.join([*(f's.{quote(name)}' for name in key), 's._sp_at DESC'])}" if key else ""
    last = {one.leaf: one for one in scope.truncations if one.table == sink.table.name}
    for one in last.values():
        condition += f" AND NOT (s._sp_leaf = {one.relation} AND s._sp_at < {one.at})"
        run(
            connection,
            f"INSERT INTO safepoint.stash SELECT {literal(one.leaf)}, 'truncate', '{{}}', '{{}}', {TRANSACTION} "
            f"FROM pg_temp.{TRANSACTIONS} t WHERE t.tx = {one.transaction}",
        )
    action = "CASE WHEN s._sp_at & 3 = 2 THEN 'delete' WHEN s._sp_at & 3 = 1 THEN 'update' ELSE 'insert' END"
    place = _place_of(_object("s", key)) if key else _NOWHERE
    return run(
        connection,
        f"INSERT INTO safepoint.stash SELECT {literal(sink.table.name)}, {action}, {_object('s', key)}, "
        f"{_object('s', sink.columns)}, {TRANSACTION}, NULL, NULL, {place} "
        f"FROM (SELECT {distinct} * FROM pg_temp.{sink.stage} s WHERE {condition} {order}) s "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = s._sp_tx",
    )


def put_aside(connection: Connection, work: Work) -> None:
    """The rows that were not carried, whole, with the reason and the transaction that last wrote them.

    A key is written as in the log, by which a row's fate is looked up.
    """
    run(
        connection,
        f"INSERT INTO safepoint.put_aside SELECT {literal(work.old.name)}, c.op, c.verdict, c.reason, "
        f"CASE WHEN s._sp_at IS NULL THEN {_changed_key(work)} ELSE {_written_key(work)} END, "
        f"coalesce({_object('s', work.sink.columns)}, '{{}}'), {TRANSACTION} "
        f"FROM {work.change} c LEFT JOIN {work.stage} s ON s._sp_at = {'c.n' if work.rule.key else 'c.source'} "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx WHERE c.verdict IS NOT NULL",
    )


def put_aside_transactions(connection: Connection, sink: Sink, old: str) -> None:
    """What transactions did to one table that are put aside as a whole."""
    key = sink.table.key
    action = "CASE WHEN s._sp_at & 3 = 2 THEN 'delete' WHEN s._sp_at & 3 = 1 THEN 'update' ELSE 'insert' END"
    run(
        connection,
        f"INSERT INTO safepoint.put_aside SELECT {literal(old)}, {action}, 'transaction', x.reason, "
        f"{_object('s', key)}, {_object('s', sink.columns)}, {TRANSACTION} FROM pg_temp.{sink.stage} s "
        f"JOIN pg_temp.sp_excluded x ON x.tx = s._sp_tx JOIN pg_temp.{TRANSACTIONS} t ON t.tx = s._sp_tx "
        f"ORDER BY s._sp_at",
    )


def put_aside_truncations(connection: Connection, truncations: Collection[Truncation], old: Mapping[str, str]) -> None:
    """The same for a TRUNCATE, whose rows nobody counts: one line for each table. `old`: its name by the new one."""
    for one in truncations:
        run(
            connection,
            f"INSERT INTO safepoint.put_aside SELECT {literal(old.get(one.table, one.table))}, 'truncate', "
            f"'transaction', x.reason, '{{}}', '{{}}', {TRANSACTION} FROM pg_temp.sp_excluded x "
            f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = x.tx WHERE x.tx = {one.transaction}",
        )


def same_key(work: Work, stage: str = "s", change: str = "c") -> str:
    """Which staged rows a change was made of."""
    if not work.rule.key:
        return f"{stage}._sp_tx = {change}.tx AND {stage}._sp_at = {change}.source"
    return " AND ".join(
        f"{stage}.{quote(new.name)}::{new.type} = {change}.k{place}" for place, (_, new) in enumerate(work.keys)
    )


def classify(
    connection: Connection, works: Sequence[Work], stashed: Collection[Sink], truncations: Collection[Truncation] = ()
) -> None:
    """`sp_flags`: transactions that are not carried whole; `safepoint.transactions` says how each of them fares.

    A TRUNCATE has no row that was staged: `truncations` say which transactions made one of which table.
    """
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_flags")
    parts = [f"SELECT tx, true AS lost, false AS stashed FROM pg_temp.{table}" for table in ("sp_excluded", MISSED)]
    for work in works:
        lost = ask(connection, f"SELECT EXISTS (SELECT FROM {work.change} WHERE verdict IS NOT NULL)")[0][0]
        if lost:
            parts.append(
                f"SELECT s._sp_tx, true, false FROM {work.stage} s JOIN {work.change} c ON {same_key(work)} "
                f"WHERE c.verdict IS NOT NULL UNION ALL SELECT tx, true, false FROM {work.change} "
                f"WHERE verdict IS NOT NULL"
            )
    parts += [f"SELECT _sp_tx, false, true FROM pg_temp.{sink.stage}" for sink in stashed]
    homeless = {sink.table.name for sink in stashed}
    emptied = sorted({one.transaction for one in truncations if one.table in homeless})
    if emptied:
        parts.append(f"SELECT unnest('{{{','.join(map(str, emptied))}}}'::int4[]), false, true")
    run(
        connection,
        f"CREATE TEMP TABLE sp_flags ON COMMIT DROP AS SELECT tx, bool_or(lost) AS lost, bool_or(stashed) AS stashed, "
        f"false AS kept FROM ({' UNION ALL '.join(parts)}) f GROUP BY tx",
    )
    run(connection, "CREATE UNIQUE INDEX ON pg_temp.sp_flags (tx)")
    for work in works:
        run(
            connection,
            f"UPDATE pg_temp.sp_flags f SET kept = true FROM {work.stage} s JOIN {work.change} c ON {same_key(work)} "
            f"WHERE s._sp_tx = f.tx AND c.verdict IS NULL AND NOT f.kept "
            f"AND NOT EXISTS (SELECT FROM pg_temp.sp_excluded x WHERE x.tx = f.tx)",
        )
    if kept := sorted({one.transaction for one in truncations if one.table not in homeless}):
        connection.execute("UPDATE pg_temp.sp_flags SET kept = true WHERE tx = ANY(%s::int4[])", [kept])
    run(
        connection,
        f"INSERT INTO safepoint.transactions "
        f"SELECT CASE WHEN f.lost AND (f.kept OR (f.stashed AND x.tx IS NULL)) THEN 'partly' "
        f"WHEN f.lost THEN 'not carried' ELSE 'stashed' END, {TRANSACTION} FROM pg_temp.sp_flags f "
        f"JOIN pg_temp.{TRANSACTIONS} t USING (tx) LEFT JOIN pg_temp.sp_excluded x ON x.tx = f.tx "
        f"WHERE f.lost OR NOT f.kept",
    )


def first_aside(connection: Connection, most: int, after: int) -> tuple[Aside, ...]:
    """The first rows that this replay put aside, in commit order; for the ledger, so secrets are masked."""
    rows = connection.execute(
        "SELECT relation, action, kind, reason, xid, commit_lsn::text, committed_at::text, key "
        "FROM safepoint.put_aside WHERE commit_lsn > %s::pg_lsn ORDER BY commit_lsn LIMIT %s",
        [format_lsn(after), most],
    ).fetchall()
    return tuple(
        Aside(relation, action, kind, reason, without_secrets(key, relation), xid, lsn, at)
        for relation, action, kind, reason, xid, lsn, at, key in rows
    )


def _written_key(work: Work) -> str:
    """The key of a staged row, as it was written last."""
    return _object("s", [new for _, new in work.rule.key])


def key_of(work: Work) -> str:
    """What names a staged row for people: its key, or all of its values where it has none."""
    return _written_key(work) if work.rule.key else _object("s", work.sink.columns)


def _changed_key(work: Work) -> str:
    """A change's key as the log writes it: a cast to text may write it otherwise (of a boolean `true`, the log `t`)."""
    if not work.rule.key:
        return "'{}'::jsonb"
    names = ", ".join(literal(new.name) for _, new in work.keys)
    values = ", ".join(f"format('%s', c.k{place})" for place in range(len(work.keys)))
    return f"jsonb_object(ARRAY[{names}], ARRAY[{values}])"


def witness(values: Sequence[str]) -> str:
    """A digest of a row's values, SQL for each as the log writes it: by it a row is known to be what it was."""
    return f"md5(to_jsonb(ARRAY[{', '.join(values)}]::text[])::text)"


def _object(row: str, columns: Sequence[str]) -> str:
    """Columns of a staged row, which are text, as a JSON object."""
    if not columns:
        return "'{}'::jsonb"
    names = ", ".join(literal(name) for name in columns)
    values = ", ".join(f"{row}.{quote(name)}" for name in columns)
    return f"jsonb_object(ARRAY[{names}], ARRAY[{values}])"


def has_constraint_trigger(table: Table) -> bool:
    """Does the table hold rules over several rows that no query here knows of (books that balance)?"""
    return any(trigger.constraint and trigger.enabled in ("O", "A") for trigger in table.triggers)
