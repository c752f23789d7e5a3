"""Transactions that were put aside whole, kept for the next launch: each comes back whole then, or not at all.

What shares rows belongs together: a row has what all of them wrote. Where one row cannot be kept, so that nobody could
find it again, nothing is kept of all that belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.expressions import Casts, literal, quote
from safepoint.wayback.replay import held_back
from safepoint.wayback.replay.compaction import find_touched
from safepoint.wayback.replay.groups import join_groups
from safepoint.wayback.replay.staged import INSERT, MISSED, TRANSACTIONS, Sink, Truncation
from safepoint.wayback.replay.stashing import stash_table
from safepoint.wayback.replay.statements import run
from safepoint.wayback.replay.work import Scope, Work


def keep_whole(
    connection: Connection,
    source: Connection,
    works: Sequence[Work],
    homeless: Sequence[Sink],
    scope: Scope,
    left_out: Iterable[Truncation],
    casts: Casts,
) -> dict[str, int]:
    """Write them into the stash; `sp_excluded` has those that are kept, then. Gives the rows of tables that the old
    schema does not have, by table.

    Args:
        source: a connection to what was captured.
        left_out: their truncations, which cannot be kept.
        casts: of the twin's server, see `Catalogue`.
    """
    _join(connection, works, homeless)
    run(connection, "CREATE TEMP TABLE sp_torn ON COMMIT DROP AS SELECT tx FROM pg_temp." + MISSED)
    for one in left_out:
        run(connection, f"INSERT INTO pg_temp.sp_torn VALUES ({one.transaction})")
    aside = replace(scope, aside=True)
    for work in works:
        _keep(connection, source, replace(work, number=len(works) + work.number), aside, casts)
    for sink in homeless:
        stash_table(connection, source, sink, aside)
    run(
        connection,
        "UPDATE pg_temp.sp_excluded SET kept = grp NOT IN "
        "(SELECT x.grp FROM pg_temp.sp_excluded x JOIN pg_temp.sp_torn USING (tx))",
    )
    run(
        connection,
        "DELETE FROM safepoint.stash s USING pg_temp.sp_excluded x WHERE s.together = x.together AND NOT x.kept",
    )
    count = (
        "SELECT count(*) FROM safepoint.stash WHERE relation = %s "
        "AND together IN (SELECT together FROM pg_temp.sp_excluded)"
    )
    counts = {sink.table.name: connection.execute(count, [sink.table.name]).fetchone() for sink in homeless}
    return {name: int(row[0]) if row else 0 for name, row in counts.items()}


def _join(connection: Connection, works: Sequence[Work], homeless: Sequence[Sink]) -> None:
    """Who belongs together; they are told by where the log has the first of them."""
    run(connection, "UPDATE pg_temp.sp_excluded SET grp = tx")
    keys = {work.sink.stage: [new for _, new in work.rule.key] for work in works}
    keys |= {sink.stage: list(sink.table.key) for sink in homeless}
    shared = [
        f"SELECT DISTINCT s._sp_tx AS tx, ROW({', '.join(f's.{quote(name)}' for name in names)}) AS what "
        f"FROM pg_temp.{stage} s WHERE EXISTS (SELECT FROM pg_temp.sp_excluded e WHERE e.tx = s._sp_tx)"
        for stage, names in keys.items()
        if names
    ]
    join_groups(connection, "pg_temp.sp_excluded", "tx", shared)
    run(
        connection,
        f"UPDATE pg_temp.sp_excluded x SET together = t.commit_lsn FROM pg_temp.{TRANSACTIONS} t WHERE t.tx = x.grp",
    )


def _keep(connection: Connection, source: Connection, work: Work, aside: Scope, casts: Casts) -> None:
    """What they left of one table, by the rows that the twin has now."""
    if not work.rule.key:  # new rows have to be found by nobody
        others = f"s._sp_at & 3 <> {INSERT}"
        run(
            connection,
            f"INSERT INTO pg_temp.sp_torn SELECT s._sp_tx FROM {work.stage} s WHERE {aside.counting('s')} AND {others}",
        )
        stash_table(connection, source, work.sink, aside)
        return
    find_touched(connection, source, work, aside)
    run(connection, f"UPDATE {work.change} SET verdict = 'transaction' WHERE verdict IS NULL")
    held_back.keep(connection, work, casts, together=True)
    run(connection, f"INSERT INTO pg_temp.sp_torn SELECT tx FROM {work.change} WHERE op <> 'none' AND NOT kept")
    # A row that came to be as it was has nothing to get.
    run(
        connection,
        f"DELETE FROM safepoint.stash WHERE relation = {literal(work.new.name)} AND together IS NOT NULL "
        f"AND action = 'update' AND NOT whole AND values = '{{}}'",
    )
