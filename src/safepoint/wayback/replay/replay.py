"""The replay: transactions committed on the new schema are carried back into the twin on the old one.

All of it is one transaction of the twin, with the place in the log that it came to: killed at any instant and run
again, nothing stands twice and nothing is lost. The twin's triggers are silent, so its constraints are asked by query.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from safepoint.errors import DatabaseError, Interrupted, Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.pgoutput import format_lsn, parse_lsn
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report, never, silent
from safepoint.wayback.capture.spool import durable_end
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.natural import make_tables
from safepoint.wayback.mapping.reading import Readings, find_readings, refuse_faults
from safepoint.wayback.mapping.since import as_named, with_since
from safepoint.wayback.replay import records, whereabouts
from safepoint.wayback.replay.accounting import Accounting
from safepoint.wayback.replay.apart import find_apart
from safepoint.wayback.replay.applying import Applying
from safepoint.wayback.replay.by_number import find_partitions, left_over
from safepoint.wayback.replay.compaction import untyped
from safepoint.wayback.replay.dangling import find_dangling
from safepoint.wayback.replay.emptied import find_emptied
from safepoint.wayback.replay.made_since import make_partitions
from safepoint.wayback.replay.manner import Manner, NotWhole, Policy, not_whole
from safepoint.wayback.replay.merging import Merged, raise_sequences
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.renamed import Renames, find_renames
from safepoint.wayback.replay.rereading import refuse_stirred, reread
from safepoint.wayback.replay.staged import Sink, Staged
from safepoint.wayback.replay.staging import stage
from safepoint.wayback.replay.statements import run
from safepoint.wayback.replay.work import Work, quoted
from safepoint.wayback.sessions import asking, end_holders

_PREVIEW: Final = 200
WRITING: Final = "writing what they left into the twin"

# `replica`: triggers and foreign keys' cascades are silent. The rest is for speed, and to see every row; of temporary
# tables a small sample tells the planner enough. What is committed has to be on the server's own disk. Where it says
# that no commit waits for a standby (which is away, perhaps), ours must not wait for it either, with the site closed.
SETTINGS: Final = """
SET LOCAL session_replication_role = replica;
SET LOCAL row_security = off;
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;
SET LOCAL default_statistics_target = 10;
SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off';
"""
# Where policies hide rows from this login, an error says so: they would count as gone.
READ_ONLY: Final = "-c default_transaction_read_only=on -c row_security=off"
# Transactions that are put aside whole, and (see `held_whole`) which belong together, and whether they are kept.
EXCLUDED: Final = """
CREATE TEMP TABLE sp_excluded (tx int4 PRIMARY KEY, reason text, grp int4, together int8, kept boolean) ON COMMIT DROP
"""
# Two replays of one twin would carry the same rows: the second waits for the first, and finds its work done.
TURN: Final = 1935763571, 1


def replay(
    twin: Target,
    migrated: Target,
    spool: Path,
    mapping: WayBack,
    *,
    launch_id: str,
    out: Path | None = None,
    up_to: str | None = None,
    policy: Policy = "row",
    waiting: Sequence[Path] = (),
    maintenance: str = "postgres",
    cancelled: Cancelled = never,
    report: Report = silent,
) -> Outcome:
    """Carry what the spool holds into the twin. May be run again at any time; it goes on behind what is applied.

    Args:
        twin: the database at the old schema; it may be closed to connections, and is closed again then.
        migrated: the database that was captured, under its present name; only read.
        up_to: the last commit's LSN to carry; by default all that is in the spool.
        out: a folder for the files of what was stashed or put aside; None leaves them to `records.write_files`.
        policy: see `config.Wayback`.
        waiting: see `Manner`.

    Raises:
        Refused: the mapping has problems, or a table was changed after the launch.
        CaptureLost: the spool is damaged.
        DatabaseError: PostgreSQL refused; nothing was changed.
        Interrupted: `cancelled` became true; nothing was changed.
    """
    with (
        entering(twin, maintenance) as connection,
        connect(migrated, application_name="safepoint replay", options=READ_ONLY) as source,
    ):
        end_holders(connection, TURN)
        return carry(
            connection,
            source,
            spool,
            mapping,
            Manner(policy, waiting=tuple(waiting)),
            launch_id=launch_id,
            out=out,
            up_to=up_to,
            cancelled=cancelled,
            report=report,
        )


def carry(
    connection: Connection,
    source: Connection,
    spool: Path,
    mapping: WayBack,
    manner: Manner,
    *,
    launch_id: str,
    out: Path | None = None,
    up_to: str | None = None,
    catalogues: tuple[Catalogue, Catalogue] | None = None,
    cancelled: Cancelled = never,
    report: Report = silent,
) -> Outcome:
    """As `replay`, over connections that are there: to the twin (`entering`), and to what was captured.

    Args:
        out: None writes no files, which grow with all that was ever stashed.
        catalogues: of both, where they have been read and nobody can have changed a definition since.

    Raises:
        NotWhole: `manner` asks for whole batches, and this one is not.
        Refused, CaptureLost, DatabaseError, Interrupted: as `replay`.
    """
    if mapping.problems:
        raise Refused(
            "The way back is not known for all columns.",
            subject=launch_id,
            found=" ".join(mapping.problems[:5]),
            remedy="Write mappers into [wayback.tables] of the plan file, or roll back with --discard.",
        )
    with asking("Carrying transactions back", connection.info.dbname, at=connection), connection.transaction():
        carrying = _Carrying(connection, source, mapping, launch_id, manner, catalogues, cancelled, report)
        return carrying.run(spool, out, None if up_to is None else parse_lsn(up_to))


class _Carrying:
    """One replay, inside its transaction."""

    def __init__(
        self,
        connection: Connection,
        source: Connection,
        mapping: WayBack,
        launch_id: str,
        manner: Manner,
        catalogues: tuple[Catalogue, Catalogue] | None,
        cancelled: Cancelled,
        report: Report,
    ) -> None:
        self.connection, self.source, self.mapping = connection, source, mapping
        self.launch_id, self.manner, self.cancelled, self.report = launch_id, manner, cancelled, report
        self.began = self.lap = time.monotonic()
        self.phases: dict[str, float] = {}
        self.catalogues = catalogues
        self.old = self.new = Catalogue({})
        self.partitions: Mapping[str, str] = {}
        self.numbers: Mapping[int, str] = {}
        self.made: tuple[str, ...] = ()
        self.readings = Readings(mapping, self.new)

    def run(self, spool: Path, out: Path | None, up_to: int | None) -> Outcome:
        self.connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", TURN)
        self.connection.execute(SETTINGS)
        records.prepare(self.connection, self.launch_id, self.manner.purpose)
        before = records.last_replay(self.connection)
        after, start = (before.commit_lsn, before.spool_end) if before else (0, 0)
        earlier = None if before is None else Outcome.from_json(before.outcome)
        if earlier is not None and self.manner.only_whole and start == durable_end(spool).offset:
            return replace(earlier, already=True, now=0)  # asked each second, for days: not of ten thousand tables
        self.old, self.new = self.catalogues or (read_catalogue(self.connection), read_catalogue(self.source))
        if not self.manner.same_schema:
            self.new = as_named(self.mapping, self.new)
            where = self.connection, self.source, spool, self.mapping, self.old, self.new
            self.partitions, self.numbers = find_partitions(*where)
            self.new = find_apart(self.source, self.new, self.partitions, self.mapping)
            self.mapping = with_since(self.mapping, self.new)
            self._find_readings()
        staged = self._stage(
            spool, after=after, up_to=up_to, start=start, earlier=earlier.transactions if earlier else 0
        )
        if earlier is not None and not staged.transactions:
            files, sequences = self._files(out), self._sequences(earlier)
            return replace(earlier, already=True, now=0, files=files, sequences=sequences, partitions=self.partitions)
        self.report(Progress(WRITING, 0, 1))
        if self.manner.only_whole:
            self._refuse_homeless(staged)
            guarded = any(map(whereabouts.has_constraint_trigger, self.old.tables.values()))
            whole = guarded or self.manner.policy == "transaction"
            refuse_stirred(self.connection, self.readings, staged, whole=whole)
        reread(self.connection, self.source, self.readings, self.old, staged)
        works = self._works(staged)
        homeless = [sink for name, sink in staged.sinks.items() if is_homeless(name, self.mapping)]
        applying = self._applying(staged, works, homeless)
        merged = applying.run()
        accounting = Accounting(self.connection, self.source, self.readings, self.old, after, self.manner.waiting)
        stashed = accounting.where(works, homeless, applying.scope, staged.truncations)
        outcome = self._outcome(accounting, staged, works, merged, stashed, up_to)
        if self.manner.only_whole and outcome.put_aside:
            raise not_whole(outcome)
        if earlier is not None:
            outcome = outcome.after(earlier)
        files = self._files(out)
        self._phase("record")
        outcome = replace(outcome, files=files, phases=self.phases, seconds=round(time.monotonic() - self.began, 3))
        records.record(self.connection, max(staged.last_lsn, after), outcome.as_json(), staged.end)
        self.report(Progress(WRITING, 1, 1))
        return outcome

    def _stage(self, spool: Path, **where: int | None) -> Staged:
        """Bring the changes to the twin, by the names that their tables have now, and make them their partitions."""
        known = None if self.manner.same_schema else self.mapping
        renames = find_renames(self.source, spool, known, self.new, self.partitions, self.numbers)
        staged = stage(
            self.connection,
            spool,
            self.new,
            mapped=None if known is None else known.known_columns,
            former=self.partitions,
            now=renames.now,
            added={rule.new: (*rule.stash, *self.readings.columns(rule.new)) for rule in self.mapping.tables},
            cancelled=self.cancelled,
            report=self.report,
            **where,  # type: ignore[arg-type]  # only `up_to` may be None
        )
        self._phase("stage")
        self._refuse_gone(staged, renames.away(staged.sinks))
        self.partitions = {**self.partitions, **renames.gone}
        if known is not None:
            self._find_partitions(renames, staged)
        return staged

    def _applying(self, staged: Staged, works: Sequence[Work], homeless: Sequence[Sink]) -> Applying:
        return Applying(
            self.connection,
            self.source,
            works,
            homeless,
            self.old,
            self.mapping,
            staged.truncations,
            self.manner,
            self._phase,
            self.readings,
        )

    def _outcome(
        self,
        accounting: Accounting,
        staged: Staged,
        works: Sequence[Work],
        merged: Mapping[str, Merged],
        stashed: Mapping[str, int],
        up_to: int | None,
    ) -> Outcome:
        dangling = find_dangling(self.connection, works, self.mapping, self.old)
        self._phase("account")
        sequences = raise_sequences(self.connection, self.source, self.mapping, self.old, self.new)
        states = accounting.states()
        return Outcome(
            launch_id=self.launch_id,
            up_to=format_lsn(max(staged.last_lsn, accounting.after, up_to or 0)),
            transactions=staged.transactions,
            changes=staged.changes,
            carried=staged.transactions - sum(states.values()),
            partly=states.get("partly", 0),
            stashed=states.get("stashed", 0),
            not_carried=states.get("not carried", 0),
            tables=accounting.tables(merged, stashed),
            now=staged.transactions,
            aside=whereabouts.first_aside(self.connection, _PREVIEW, accounting.after),
            sequences=sequences,
            partitions=self.partitions,
            dangling=dangling,
            made=self.made,
            passed_over=accounting.passed_over,
        )

    def _sequences(self, earlier: Outcome) -> dict[str, int]:
        """What nobody committed is no change, and was given out all the same; followers leave it to the last replay."""
        if self.manner.only_whole:
            return dict(earlier.sequences)
        return {
            **earlier.sequences,
            **raise_sequences(self.connection, self.source, self.mapping, self.old, self.new),
        }

    def _files(self, out: Path | None) -> dict[str, str]:
        return {} if out is None else records.write_files(self.connection, out)

    def _refuse_gone(self, staged: Staged, away: Collection[str]) -> None:
        """Rows of a mapped table that is gone by now: without them others would be half of what was done.

        Of a partitioned one that is gone nobody knows which relations were its partitions. `away`: see `Renames`.
        """
        gone = {
            rule.new: self.old.tables.get(rule.old) for rule in self.mapping.tables if rule.new not in self.new.tables
        }
        parted = any(table is not None and table.partitioned for table in gone.values())
        written = sorted({*away, *(staged.unknown if parted else staged.unknown & gone.keys())})
        if gone and written:
            raise Refused(
                f"Rows were written to {', '.join(written[:5])}, and {', '.join(sorted(gone)[:5])} is gone since.",
                subject=written[0],
                remedy="Someone dropped or renamed it after the launch. Bring it back, or roll back with --discard.",
            )

    def _refuse_homeless(self, staged: Staged) -> None:
        """Changes of tables that the twin does not have, and that no stash is meant for: of one that was made since it
        is, but where the twin is to be the same."""
        unknown = {
            name
            for name in staged.sinks
            if name not in self.mapping.feeds
            and name not in self.mapping.stash
            and (self.manner.same_schema or not is_homeless(name, self.mapping))
        }
        unknown |= staged.unknown if self.manner.same_schema else set()
        if unknown:
            raise NotWhole(
                f"The twin has no table for changes of {', '.join(sorted(unknown)[:5])}.",
                subject=sorted(unknown)[0],
                remedy="Somebody changed the schema, or it is a table of an extension; nothing was changed here.",
            )

    def _find_partitions(self, renames: Renames, staged: Staged) -> None:
        self.made = make_partitions(self.connection, self.source, self.mapping, self.old, renames.there)
        if self.made:
            self.old = read_catalogue(self.connection)
        left = self.old, left_over(self.partitions, self.numbers, renames.there)
        known = find_emptied(self.connection, self.source, self.mapping, *left, staged.truncations)
        staged.truncations, unknown = known
        olds = {rule.new: rule.old for rule in self.mapping.tables}
        whereabouts.put_aside_emptied(self.connection, unknown, olds)

    def _find_readings(self) -> None:
        """From here on the way back is one over rows that have what mappers read among their columns."""
        self.readings = find_readings(self.connection, self.source, self.mapping, self.old, self.new)
        refuse_faults(self.readings)
        self.mapping, self.new = self.readings.mapping, self.readings.new

    def _phase(self, name: str) -> None:
        now = time.monotonic()
        self.phases[name] = round(self.phases.get(name, 0) + now - self.lap, 3)
        self.lap = now
        if self.cancelled():
            raise Interrupted("The replay was stopped; nothing was changed.", subject=self.launch_id)

    def _works(self, staged: Staged) -> list[Work]:
        feeds = self.mapping.feeds
        found: list[Work] = []
        for name, sink in staged.sinks.items():
            rule = feeds.get(name)
            if rule is not None:
                old = self.old.tables.get(rule.old)
                if old is None:
                    raise DatabaseError(
                        f"The twin has no table {rule.old}.", subject=rule.old, remedy="Is this the launch's twin?"
                    )
                texts = untyped(self.connection, sink, [new for _, new in rule.key])
                found.append(Work(rule, old, self.new.tables[name], sink, len(found), texts))
        for work in found:
            run(self.connection, f"LOCK TABLE {quoted(work.old)} IN EXCLUSIVE MODE")
        rules = [work.rule for work in found]
        make_tables(self.connection, self.source, rules, self.mapping.models, self.old, self.new)
        run(self.connection, EXCLUDED)
        return found


def is_homeless(table: str, mapping: WayBack) -> bool:
    """Has the old schema no such table? Also one that was made since the mapping was: it goes to the stash as well.

    A tenant's schema that was made since has a record of migrations of its own, which is a table as others are.
    """
    return table not in mapping.feeds and not (table in mapping.kept and table.endswith(".django_migrations"))
