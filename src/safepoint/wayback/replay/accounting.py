"""What became of everything that a replay read, once it is written: by row, by transaction, by table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import format_lsn
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.reading import Readings
from safepoint.wayback.replay import held_back, stashing, whereabouts
from safepoint.wayback.replay.held_whole import keep_whole
from safepoint.wayback.replay.holding import any_aside
from safepoint.wayback.replay.merging import Merged
from safepoint.wayback.replay.outcome import TableOutcome
from safepoint.wayback.replay.passed_over import KIND, keep_passed_over
from safepoint.wayback.replay.staged import Sink, Truncation
from safepoint.wayback.replay.work import Scope, Work


class Accounting:
    """One replay's account, inside its transaction.

    Args:
        source: a connection to what was captured.
        readings: the way back, and what mappers read.
        old: the twin's catalogue.
        after: the last commit that an earlier replay carried; 0 where there was none.
        waiting: see `Manner`.
    """

    def __init__(
        self,
        connection: Connection,
        source: Connection,
        readings: Readings,
        old: Catalogue,
        after: int,
        waiting: Sequence[Path] = (),
    ) -> None:
        self.waiting = waiting
        self.connection, self.source, self.readings, self.old, self.after = connection, source, readings, old, after
        self.passed_over = 0

    def where(
        self, works: Sequence[Work], homeless: Sequence[Sink], scope: Scope, truncations: Sequence[Truncation]
    ) -> dict[str, int]:
        """Write down what is stashed, what is put aside, and how each transaction fares; gives the rows that are
        stashed, by table.

        Args:
            homeless: what was staged of tables that the old schema does not have.
            truncations: all of them; those of `scope` were carried.
        """
        connection = self.connection
        if self.after:
            stashing.forget_older(connection, works, homeless, scope, self.after)
        stashed = {sink.table.name: stashing.stash_table(connection, self.source, sink, scope) for sink in homeless}
        aside = [work for work in works if any_aside(connection, work)]
        if aside or scope.excluding:
            held_back.read_waiting(connection, self.waiting)
        for work in works:
            stashed[work.old.name] = stashing.stash_values(connection, work)
            stashing.stash_truncations(connection, work, scope)
            if work in aside:
                held_back.keep(connection, work, self.old.casts)
                whereabouts.put_aside(connection, work)
        if scope.excluding:
            left_out = [one for one in truncations if one not in scope.truncations]
            kept = keep_whole(connection, self.source, works, homeless, scope, left_out, self.old.casts)
            stashed = {name: count + kept.get(name, 0) for name, count in stashed.items()}
            for work in works:
                whereabouts.put_aside_transactions(connection, work.sink, work.old.name)
            for sink in homeless:
                whereabouts.put_aside_transactions(connection, sink, sink.table.name)
            names = {rule.new: rule.old for rule in self.readings.mapping.tables}
            whereabouts.put_aside_truncations(connection, left_out, names)
        whereabouts.classify(connection, works, aside, homeless, scope.truncations)
        self.passed_over = keep_passed_over(connection, self.source, self.readings, homeless)
        return stashed

    def states(self) -> dict[str, int]:
        """How many transactions are not carried whole, by state."""
        rows = self.connection.execute(
            "SELECT state, count(*) FROM safepoint.transactions WHERE commit_lsn > %s::pg_lsn GROUP BY 1",
            [format_lsn(self.after)],
        ).fetchall()
        return {str(state): int(count) for state, count in rows}

    def tables(self, merged: Mapping[str, Merged], stashed: Mapping[str, int]) -> tuple[TableOutcome, ...]:
        """What was done to each table."""
        rows = self.connection.execute(
            "SELECT relation, count(*) FILTER (WHERE kind <> 'conflict'), count(*) FILTER (WHERE kind = 'conflict') "
            "FROM safepoint.put_aside WHERE commit_lsn > %s::pg_lsn AND kind <> %s GROUP BY 1",
            [format_lsn(self.after), KIND],
        ).fetchall()
        aside: dict[str, tuple[Any, ...]] = {row[0]: row[1:] for row in rows}
        none = Merged(0, 0, 0)
        return tuple(
            TableOutcome(
                name,
                merged.get(name, none).inserted,
                merged.get(name, none).updated,
                merged.get(name, none).deleted,
                stashed.get(name, 0),
                *aside.get(name, (0, 0)),
            )
            for name in sorted({*merged, *stashed, *aside})
        )
