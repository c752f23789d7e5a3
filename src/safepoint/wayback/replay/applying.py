"""What the twin can hold is worked out, and written; again and again, while something has to be put aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.expressions import literal, quote
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.reading import Readings
from safepoint.wayback.replay import whereabouts
from safepoint.wayback.replay.compaction import compact
from safepoint.wayback.replay.fitting import put_aside_unasked
from safepoint.wayback.replay.holding import hold, settle, violations
from safepoint.wayback.replay.keyless import compact_rows
from safepoint.wayback.replay.manner import Manner
from safepoint.wayback.replay.merging import Merged, find_refused, merge, silence, unsilence
from safepoint.wayback.replay.staged import Sink, Truncation
from safepoint.wayback.replay.statements import REFUSED, ask, run
from safepoint.wayback.replay.unchanged import distrust
from safepoint.wayback.replay.work import Scope, Work


class Applying:
    """From staged changes to written rows, inside the replay's transaction.

    First without asking for rules that the new schema holds too; where something does not hold all the same, that is
    seen when it is written, taken back, and everything is asked.

    Args:
        source: a connection to what was captured.
        homeless: what was staged of tables that the old schema does not have.
        old: the twin's catalogue.
        readings: what mappers read.
        phase: is told the name of each phase that ended; raises when the replay is to stop.

    Attributes:
        scope: what counted in the end: without the transactions that were put aside as a whole.
    """

    def __init__(
        self,
        connection: Connection,
        source: Connection,
        works: Sequence[Work],
        homeless: Sequence[Sink],
        old: Catalogue,
        mapping: WayBack,
        truncations: Sequence[Truncation],
        manner: Manner,
        phase: Callable[[str], None],
        readings: Readings,
    ) -> None:
        self.connection, self.source, self.works, self.homeless, self.old = connection, source, works, homeless, old
        self.manner, self.truncations, self._phase = manner, truncations, phase
        self._rules = {rule.old: rule for rule in mapping.tables}
        self._trusting = True
        self.readings = readings
        self.scope = Scope(truncations, self._types())

    def run(self) -> dict[str, Merged]:
        """Write; gives what was written by old table.

        Raises:
            DatabaseError: PostgreSQL refuses rows for a reason that no query finds. Nothing was changed.
        """
        silenced = silence(self.connection, [work.old for work in self.works])
        prepared = False
        while True:
            if not prepared:
                self._prepare()
                prepared = True
            if self._exclude():
                prepared = self._trusting = False
                excluded = {row[0] for row in ask(self.connection, "SELECT tx FROM pg_temp.sp_excluded")}
                kept = [one for one in self.truncations if one.transaction not in excluded]
                self.scope = Scope(kept, self.scope.types, excluding=True)
                continue
            written = self._write()
            if not isinstance(written, _Refusal):
                break
            self._yield_to(written)
        unsilence(self.connection, silenced)
        return written

    def _types(self) -> frozenset[str]:
        """Types of the new columns that the twin's server knows too."""
        names = sorted({column.type for work in self.works for column in work.new.columns})
        rows = self.connection.execute(
            "SELECT t FROM unnest(%s::text[]) t WHERE to_regtype(t) IS NOT NULL", [names]
        ).fetchall()
        return frozenset(str(row[0]) for row in rows)

    def _prepare(self) -> None:
        for work in self.works:
            if work.rule.key:
                compact(self.connection, self.source, work, self.scope)
            else:
                followed = work.moves and not self.manner.same_schema
                compact_rows(self.connection, work, self.scope, self.old, followed=followed)
            if self.scope.excluding and self._reads_excluded(work):
                distrust(self.connection, work, self.readings.made.get(work.new.name, {}))
            self._phase("compact")
        if not self.manner.same_schema:
            self._hold()
        self._phase("check")

    def _reads_excluded(self, work: Work) -> bool:
        """Whether a transaction that is put aside wrote to this table, or to one that its mappers read: then values of
        it may be what that one made of them."""
        reading = self.readings.of.get(work.new.name)
        if reading is None:
            return False
        sinks = [*(one.sink for one in self.works), *self.homeless]
        parts = [
            f"SELECT FROM pg_temp.{sink.stage} s JOIN pg_temp.sp_excluded x ON x.tx = s._sp_tx"
            for sink in sinks
            if reading.unseen or sink.table.name in reading.tables | {work.new.name}
        ]
        emptied = {one.transaction for one in self.truncations if one.table in reading.tables | {work.new.name}}
        parts += [f"SELECT FROM pg_temp.sp_excluded x WHERE x.tx = {one}" for one in sorted(emptied)]
        return any(ask(self.connection, f"SELECT EXISTS ({part})")[0][0] for part in parts)

    def _hold(self) -> None:
        trusted = self._rules if self._trusting else None
        try:
            with self.connection.transaction():
                hold(self.connection, self.works, self.old, self.scope, self.manner.policy, trusted)
        except REFUSED:
            if not sum([put_aside_unasked(self.connection, work) for work in self.works]):
                raise
            hold(self.connection, self.works, self.old, self.scope, self.manner.policy, trusted)

    def _write(self) -> dict[str, Merged] | _Refusal:
        """Write, and look at what stands there now; all of it is taken back where something does not hold."""
        try:
            with self.connection.transaction():
                merged = merge(self.connection, self.works)
                self._phase("merge")
                if isinstance(merged, Work):
                    return _Refusal(merged, ())
                if not self.manner.same_schema and (found := violations(self.connection, self.works, self.old)):
                    raise _TakenBack(found)
                self._phase("verify")
                return merged
        except _TakenBack as taken_back:
            return _Refusal(None, taken_back.violations)

    def _yield_to(self, refusal: _Refusal) -> None:
        """Put aside what made PostgreSQL refuse the rows, or what made a constraint not hold."""
        if self._trusting and not self.manner.same_schema:
            self._trusting = False
            # Rows that had no parent before either are known only now; then nothing is put aside, and all may hold.
            if settle(self.connection, self.works, self.old, self.manner.policy) or refusal.work is None:
                return
        if refusal.work is None:
            raise DatabaseError(
                "The twin's constraints do not hold after the replay.",
                subject=self.connection.info.dbname,
                found="; ".join(refusal.violations),
                remedy="Nothing was changed. Keep the spool and report this as a fault of Safepoint.",
            )
        if not find_refused(self.connection, self.works, refusal.work):
            raise DatabaseError(
                f"The rows of {refusal.work.old.name} cannot be written, and none of them alone is the cause.",
                subject=refusal.work.old.name,
                remedy="Nothing was changed. Roll back with --discard, or carry this table by hand.",
            )
        settle(self.connection, self.works, self.old, self.manner.policy)

    def _exclude(self) -> bool:
        """Put whole transactions aside, where the policy or a rule over several rows asks for it; whether any was."""
        guarded = [work for work in self.works if whereabouts.has_constraint_trigger(work.old)]
        if self.manner.policy == "row" and not guarded:
            return False
        before = self._excluded()
        of_row = of_emptied = "true"
        if self.manner.policy == "row":
            names = {one.new.name for one in guarded}
            touched = [f"SELECT _sp_tx FROM {one.stage}" for one in guarded]
            touched += [f"SELECT {one.transaction}" for one in self.scope.truncations if one.table in names]
            of_row, of_emptied = (f"{tx} IN ({' UNION '.join(touched)})" for tx in ("s._sp_tx", "c.tx"))
        for work in self.works:
            run(
                self.connection,
                f"INSERT INTO pg_temp.sp_excluded SELECT tx, min(reason) FROM ("
                f"SELECT s._sp_tx AS tx, c.reason FROM {work.change} c JOIN {work.stage} s "
                f"ON {whereabouts.same_key(work)} WHERE c.verdict IS NOT NULL AND {of_row} "
                # What went with all of its table was staged by nobody.
                f"UNION ALL SELECT c.tx, c.reason FROM {work.change} c WHERE c.verdict IS NOT NULL "
                f"AND {work.emptied} AND {of_emptied}) e GROUP BY tx ON CONFLICT DO NOTHING",
            )
        named = [(work.sink, [new.name for _, new in work.keys]) for work in self.works]
        named += [(sink, list(sink.table.key)) for sink in self.homeless]
        while any([self._follow(sink, key) > 0 for sink, key in named if key]):  # noqa: C419 - all of them
            pass
        run(self.connection, "ANALYZE pg_temp.sp_excluded")  # else it is taken for a thousand transactions
        return self._excluded() > before

    def _follow(self, sink: Sink, key: Sequence[str]) -> int:
        """Later transactions that changed a row which a transaction that is put aside had changed before them: the log
        has their rows whole, with what that one had written."""
        names = ", ".join(f"e.{quote(name)}" for name in key)
        same = " AND ".join(f"e.{quote(name)} = l.{quote(name)}" for name in key)
        stage = f"pg_temp.{sink.stage}"
        # By the first one of each row: all that changed one after another would be pairs, as many as their square.
        return run(
            self.connection,
            f"INSERT INTO pg_temp.sp_excluded SELECT DISTINCT l._sp_tx, "
            f"'it changes a row of ' || {literal(sink.table.relation)} || ' that a transaction put aside had changed' "
            f"FROM (SELECT {names}, min(e._sp_tx) AS _sp_tx FROM pg_temp.sp_excluded x "
            f"JOIN {stage} e ON e._sp_tx = x.tx GROUP BY {names}) e JOIN {stage} l ON {same} "
            f"AND l._sp_tx > e._sp_tx ON CONFLICT DO NOTHING",
        )

    def _excluded(self) -> int:
        return int(ask(self.connection, "SELECT count(*) FROM pg_temp.sp_excluded")[0][0])


@dataclass(frozen=True)
class _Refusal:
    """Why nothing was written: the table whose rows PostgreSQL refused, or what did not hold afterwards."""

    work: Work | None
    violations: tuple[str, ...]


class _TakenBack(Exception):
    """What was written does not hold."""

    def __init__(self, violations: tuple[str, ...]) -> None:
        super().__init__(*violations)
        self.violations = violations
