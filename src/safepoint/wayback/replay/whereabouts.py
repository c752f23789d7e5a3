"""Where every captured change went: stashed, put aside, carried; row by row and transaction by transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from safepoint.postgres.connections import Connection
from safepoint.postgres.masking import without_secrets
from safepoint.postgres.pgoutput import format_lsn
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.replay.outcome import Aside
from safepoint.wayback.replay.staged import MISSED, TRANSACTIONS, Sink, Truncation
from safepoint.wayback.replay.stashing import TRANSACTION, as_object, written_key
from safepoint.wayback.replay.statements import run
from safepoint.wayback.replay.too_large import row_fits
from safepoint.wayback.replay.work import Work


def put_aside(connection: Connection, work: Work) -> None:
    """The rows that were not carried, whole, with the reason and the transaction that last wrote them.

    A key is written as in the log, by which a row's fate is looked up. `kept`: see `held_back`; `read`: nobody wrote to
    the row, but to what a mapper reads for it.
    """
    run(
        connection,
        f"INSERT INTO safepoint.put_aside SELECT {literal(work.old.name)}, c.op, c.verdict, c.reason, "
        f"CASE WHEN s._sp_at IS NULL THEN {_changed_key(work)} ELSE {written_key(work)} END, "
        f"coalesce({_shown(work.sink)}, '{{}}'), {TRANSACTION}, c.kept IS TRUE, "
        f"{_read(work.sink, 'c.n')} FROM {work.change} c LEFT JOIN {work.stage} s ON s._sp_at = {work.staged_at} "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx WHERE c.verdict IS NOT NULL",
    )


def put_aside_transactions(connection: Connection, sink: Sink, old: str) -> None:
    """What transactions did to one table that are put aside as a whole."""
    key = sink.table.key
    action = "CASE WHEN s._sp_at & 3 = 2 THEN 'delete' WHEN s._sp_at & 3 = 1 THEN 'update' ELSE 'insert' END"
    run(
        connection,
        f"INSERT INTO safepoint.put_aside SELECT {literal(old)}, {action}, 'transaction', x.reason, "
        f"{as_object('s', key)}, {_shown(sink)}, {TRANSACTION}, x.kept IS TRUE, "
        f"{_read(sink, 's._sp_at')} FROM pg_temp.{sink.stage} s JOIN pg_temp.sp_excluded x ON x.tx = s._sp_tx "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = s._sp_tx "
        f"ORDER BY s._sp_at",
    )


def _shown(sink: Sink) -> str:
    """All of a staged row `s`; nothing of one that is too large for a line."""
    values, fitting = as_object("s", sink.own), row_fits(sink, "s", sink.own)
    return values if fitting == "true" else f"CASE WHEN {fitting} THEN {values} ELSE '{{}}' END"


def _read(sink: Sink, place: str) -> str:
    return f"{place} >= {sink.reread}" if sink.reread else "false"


def put_aside_truncations(connection: Connection, truncations: Collection[Truncation], old: Mapping[str, str]) -> None:
    """The same for a TRUNCATE, whose rows nobody counts: one line for each table. `old`: its name by the new one."""
    for one in truncations:
        run(
            connection,
            f"INSERT INTO safepoint.put_aside SELECT {literal(old.get(one.table, one.table))}, 'truncate', "
            f"'transaction', x.reason, '{{}}', '{{}}', {TRANSACTION} FROM pg_temp.sp_excluded x "
            f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = x.tx WHERE x.tx = {one.transaction}",
        )


def put_aside_emptied(connection: Connection, truncations: Collection[Truncation], old: Mapping[str, str]) -> None:
    """A TRUNCATE of a partition of which nobody knows which one of the twin's it is: its rows stay. `old`: as above."""
    for one in truncations:
        run(connection, f"INSERT INTO pg_temp.{MISSED} VALUES ({one.transaction})")
        why = literal(f"{one.leaf} was emptied, and nobody knows which of the old schema's partitions that was")
        run(
            connection,
            f"INSERT INTO safepoint.put_aside SELECT {literal(old[one.table])}, 'truncate', 'transaction', {why}, "
            f"'{{}}', '{{}}', {TRANSACTION} FROM pg_temp.{TRANSACTIONS} t WHERE t.tx = {one.transaction}",
        )


def same_key(work: Work, stage: str = "s", change: str = "c") -> str:
    """Which staged rows a change was made of."""
    if not work.rule.key:
        return f"{stage}._sp_tx = {change}.tx AND {stage}._sp_at = {change}.source"
    return " AND ".join(
        f"{stage}.{quote(new.name)}::{new.type} = {change}.k{place}" for place, (_, new) in enumerate(work.keys)
    )


def classify(
    connection: Connection,
    works: Sequence[Work],
    aside: Collection[Work],
    stashed: Collection[Sink],
    truncations: Collection[Truncation] = (),
) -> None:
    """`sp_flags`: transactions that are not carried whole; `safepoint.transactions` says how each of them fares.

    A TRUNCATE has no row that was staged: `truncations` say which transactions made one of which table. `aside` are
    those of `works` of which rows were put aside.
    """
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_flags")
    parts = [
        "SELECT tx, kept IS NOT TRUE AS lost, false AS stashed, true AS aside FROM pg_temp.sp_excluded",
        f"SELECT tx, true, false, true FROM pg_temp.{MISSED}",
    ]
    for work in aside:
        fate = "kept IS NOT TRUE, kept IS TRUE, true"
        parts.append(
            f"SELECT s._sp_tx, {fate} FROM {work.stage} s JOIN {work.change} c ON {same_key(work)} "
            f"WHERE c.verdict IS NOT NULL UNION ALL SELECT tx, {fate} FROM {work.change} WHERE verdict IS NOT NULL"
        )
    for sink in stashed:
        fitting = row_fits(sink, "s", sink.own)
        parts.append(f"SELECT s._sp_tx, NOT {fitting}, {fitting}, NOT {fitting} FROM pg_temp.{sink.stage} s")
    homeless = {sink.table.name for sink in stashed}
    emptied = sorted({one.transaction for one in truncations if one.table in homeless})
    if emptied:
        parts.append(f"SELECT unnest('{{{','.join(map(str, emptied))}}}'::int4[]), false, true, false")
    run(
        connection,
        f"CREATE TEMP TABLE sp_flags ON COMMIT DROP AS SELECT tx, bool_or(lost) AS lost, bool_or(stashed) AS stashed, "
        f"bool_or(aside) AS aside, false AS carried FROM ({' UNION ALL '.join(parts)}) f GROUP BY tx",
    )
    run(connection, "CREATE UNIQUE INDEX ON pg_temp.sp_flags (tx)")
    for work in works:
        run(
            connection,
            f"UPDATE pg_temp.sp_flags f SET carried = true "
            f"FROM {work.stage} s JOIN {work.change} c ON {same_key(work)} "
            f"WHERE s._sp_tx = f.tx AND c.verdict IS NULL AND NOT f.carried "
            f"AND NOT EXISTS (SELECT FROM pg_temp.sp_excluded x WHERE x.tx = f.tx)",
        )
    if emptied := sorted({one.transaction for one in truncations if one.table not in homeless}):
        connection.execute("UPDATE pg_temp.sp_flags SET carried = true WHERE tx = ANY(%s::int4[])", [emptied])
    run(
        connection,
        f"INSERT INTO safepoint.transactions "
        f"SELECT CASE WHEN f.aside AND f.carried OR f.lost AND f.stashed AND x.tx IS NULL THEN 'partly' "
        f"WHEN f.lost THEN 'not carried' ELSE 'stashed' END, {TRANSACTION} FROM pg_temp.sp_flags f "
        f"JOIN pg_temp.{TRANSACTIONS} t USING (tx) LEFT JOIN pg_temp.sp_excluded x ON x.tx = f.tx "
        f"WHERE f.aside OR NOT f.carried",
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


def key_of(work: Work) -> str:
    """What names a staged row for people: its key, or all of its values where it has none."""
    return written_key(work) if work.rule.key else as_object("s", work.sink.own)


def _changed_key(work: Work) -> str:
    """A change's key as the log writes it: a cast to text may write it otherwise (of a boolean `true`, the log `t`)."""
    if not work.rule.key:
        return "'{}'::jsonb"
    names = ", ".join(literal(new.name) for _, new in work.keys)
    values = ", ".join(f"format('%s', c.k{place})" for place in range(len(work.keys)))
    return f"jsonb_object(ARRAY[{names}], ARRAY[{values}])"


def has_constraint_trigger(table: Table) -> bool:
    """Does the table hold rules over several rows that no query here knows of (books that balance)?"""
    return any(trigger.constraint and trigger.enabled in ("O", "A") for trigger in table.triggers)
