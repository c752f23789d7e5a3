"""Rows without a key, followed from one UPDATE to the next: which row of the twin each of them was.

The log names such a row by all of its values, and rows that are alike are as good as one another: the first that is
taken away is the first that was there, the twin's own before what came since. So what an UPDATE makes of a row keeps
what only the old schema has of it, and where the old schema cannot hold that, the row stays as it was.
"""

from __future__ import annotations

from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.replay.crossing import left_partition
from safepoint.wayback.replay.emptied import took
from safepoint.wayback.replay.staged import DELETE, MOVE
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import Scope, Work, rows_of

# Of the rows of one value the first that came is taken first, the twin's own (`had`) before all others. In a conflict
# there may be none yet: what comes later is another row.
_LINKS: Final = """
CREATE TEMP TABLE sp_links ON COMMIT DROP AS
SELECT b.n, b.tx, b.value, b.place, b.said, b.counts, f.n AS prev, p.tid, p.rel, p.value AS was
FROM pg_temp.sp_births b LEFT JOIN pg_temp.sp_events d ON d.n = b.partner AND d.sign = -1
LEFT JOIN pg_temp.sp_births f ON f.value = d.value AND f.place = d.place AND f.n < d.n
LEFT JOIN pg_temp.sp_present p ON p.value = d.value AND p.place = d.place
"""
# Each round takes steps twice as long: a row that was changed a million times is followed in twenty.
_FOLLOW: Final = """
UPDATE pg_temp.sp_links l SET prev = f.prev, tid = f.tid, rel = f.rel, was = f.was
FROM pg_temp.sp_links f WHERE l.prev = f.n AND (f.prev IS NOT NULL OR f.tid IS NOT NULL)
"""
# What is there in the end; of a row that is again what it was nothing is to be done.
_STAYING: Final = """
CREATE TEMP TABLE sp_staying ON COMMIT DROP AS
SELECT l.* FROM pg_temp.sp_links l WHERE l.counts AND NOT EXISTS (
    SELECT FROM pg_temp.sp_events d WHERE d.sign = -1 AND d.value = l.value AND d.place = l.place AND d.n > l.n)
"""
_CHANGES: Final = """
INSERT INTO {change} (source, tx, existed, ends, row_tid, row_rel, op, verdict, reason)
SELECT d.n, d.tx, true, false, p.tid, p.rel, 'delete', CASE WHEN p.tid IS NULL THEN 'conflict' END,
       CASE WHEN p.tid IS NULL THEN 'the old database has no such row' END
FROM pg_temp.sp_events d LEFT JOIN pg_temp.sp_present p ON p.value = d.value AND p.place = d.place
WHERE d.sign = -1 AND d.counts
  AND NOT EXISTS (SELECT FROM pg_temp.sp_births b WHERE b.value = d.value AND b.place = d.place AND b.n < d.n)
  AND NOT EXISTS (SELECT FROM pg_temp.sp_staying s WHERE s.tid = p.tid AND s.rel = p.rel AND s.value = s.was);
INSERT INTO {change} (source, tx, existed, ends, origin_tid, origin_rel, op, verdict, reason)
SELECT n, tx, false, true, tid, rel, 'insert', CASE WHEN said IS NOT NULL THEN 'value' END, said
FROM pg_temp.sp_staying WHERE value IS DISTINCT FROM was
"""


def follow(connection: Connection, work: Work, scope: Scope, known: str) -> None:
    """Fill the table of changes, where those of truncations stand already.

    Args:
        known: a row of the old shape by its values that the new table has, as SQL: an array of texts.
    """
    _make_events(connection, work, scope, known)
    _find_present(connection, work, scope, known)
    run(
        connection,
        "CREATE TEMP TABLE sp_births ON COMMIT DROP AS "
        "SELECT e.n, e.tx, e.value, e.place + coalesce(h.had, 0) AS place, e.said, e.counts, e.partner "
        "FROM pg_temp.sp_events e LEFT JOIN (SELECT value, count(*) AS had FROM pg_temp.sp_present GROUP BY value) h "
        "ON h.value = e.value WHERE e.sign = 1",
    )
    run(connection, "ANALYZE pg_temp.sp_births")
    run(connection, _LINKS)
    run(connection, "CREATE UNIQUE INDEX ON pg_temp.sp_links (n)")
    run(connection, "ANALYZE pg_temp.sp_links")
    while run(connection, _FOLLOW):
        pass
    run(connection, _STAYING)
    for statement in _CHANGES.format(change=work.change).split(";\n"):
        run(connection, statement)


def kept(work: Work) -> str:
    """The old columns as a SELECT list over the row `r` in the old shape, and `old`, the twin's row that it was; a
    comma stands behind each."""
    return "".join(
        f"CASE WHEN c.origin_tid IS NULL THEN r.{name} ELSE old.{name} END, "
        if rule.kind == "restored"
        else f"r.{name}, "
        for rule in work.rule.columns
        if rule.kind != "generated"
        for name in [quote(rule.column)]
    )


def _make_events(connection: Connection, work: Work, scope: Scope, known: str) -> None:
    """Each row that came (+1) or went (-1), by its value and by which of that value it is. `counts` is false of what a
    later TRUNCATE took; `partner`: the row that an UPDATE made it of."""
    counts = Scope(scope.truncations, scope.types).condition(work)
    whole = ", ".join(f"s.{quote(name)}" for name in work.sink.columns)
    partner, across = _partner(work)
    run(
        connection,
        f"CREATE TEMP TABLE sp_events ON COMMIT DROP AS SELECT e.*, "
        f"dense_rank() OVER (ORDER BY said IS NULL, counts, known) AS value, "
        f"row_number() OVER (PARTITION BY said IS NULL, counts, known, sign ORDER BY n) AS place FROM ("
        f"SELECT s._sp_at AS n, s._sp_tx AS tx, CASE WHEN s._sp_at & 3 = {DELETE} THEN -1 ELSE 1 END AS sign, "
        f"u.said, {counts} AS counts, {partner} AS partner, "
        f"CASE WHEN u.n IS NULL THEN r.known ELSE ARRAY[{whole}]::text[] END AS known FROM {work.stage} s "
        f"LEFT JOIN (SELECT _sp_n AS n, {known} AS known FROM pg_temp.sp_rows) r ON r.n = s._sp_at "
        f"LEFT JOIN pg_temp.sp_unfit u ON u.n = s._sp_at{across} "
        f"WHERE (r.n IS NOT NULL OR u.n IS NOT NULL)) e",
    )
    run(connection, "CREATE INDEX ON pg_temp.sp_events (n)")
    run(connection, "ANALYZE pg_temp.sp_events")


def _partner(work: Work) -> tuple[str, str]:
    """The deletion that stands before what an UPDATE made of a row, as SQL, and the join that finds it. One that takes
    a row to another partition is a deletion and an insertion; what it leaves alone, they have in common."""
    moved = f"CASE WHEN s._sp_at & 3 = {MOVE} THEN s._sp_at - 4 + {DELETE - MOVE} END"
    if not work.new.parted_by:
        return moved, ""
    same = " AND ".join(
        f"p.{quote(name)} IS NOT DISTINCT FROM s.{quote(name)}"
        for name in work.sink.columns
        if name not in work.new.parted_by
    )
    return f"coalesce({moved}, p._sp_at)", left_partition(work, same or "true")


def _find_present(connection: Connection, work: Work, scope: Scope, known: str) -> None:
    """The twin's rows that something was done to, by value and by which of that value each is."""
    run(connection, "CREATE TEMP TABLE sp_present (tid tid, rel oid, value int8, place int8) ON COMMIT DROP")
    if not ask(connection, "SELECT FROM pg_temp.sp_events WHERE sign = -1 LIMIT 1"):
        return  # rows that only came are no reason to read the whole table
    run(
        connection,
        f"INSERT INTO pg_temp.sp_present SELECT o.tid, o.rel, v.value, row_number() OVER (PARTITION BY v.value) "
        f"FROM (SELECT ctid AS tid, tableoid AS rel, {_counts(work, scope)} AS counts, {known} AS known "
        f"FROM {rows_of(work.old)}) o "
        f"JOIN (SELECT DISTINCT value, counts, known FROM pg_temp.sp_events WHERE said IS NULL AND sign = -1) v "
        f"ON v.known = o.known AND v.counts = o.counts",
    )
    run(connection, "ANALYZE pg_temp.sp_present")


def _counts(work: Work, scope: Scope) -> str:
    """Whether no TRUNCATE took a row of the twin."""
    emptied = [took(one, work) for one in scope.of(work)]
    return f"NOT ({' OR '.join(emptied)})" if emptied else "true"
