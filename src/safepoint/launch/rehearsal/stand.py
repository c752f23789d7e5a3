"""A restored copy of the live database, and what a rehearsal does with it, in order.

This is where the rooms meet: fingerprints (backup), the application (django), the looking and judging (rehearsal). The
live database is only read: its settings, its size, and a scan of about a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from safepoint.backup import fingerprint
from safepoint.backup.proof import Restored
from safepoint.checkpoints.database import judge_size, measure_size
from safepoint.config import PlanFile
from safepoint.django.intent import Intent
from safepoint.django.managepy import Manage
from safepoint.django.operations import Operations
from safepoint.django.standby import Standby
from safepoint.launch.rehearsal.fence import RehearsedFence
from safepoint.launch.rehearsal.forecast import Measured, fits, foresee
from safepoint.launch.rehearsal.linting import breaking, linted
from safepoint.launch.rehearsal.manage import Loading, Pointed, intended, loading
from safepoint.launch.rehearsal.notes import notes_on, reasons, uncounted
from safepoint.launch.rehearsal.rehearsals import Rehearsal, rehearsal_folder
from safepoint.launch.rehearsal.release import OnCopy, started_copy, try_release, try_start
from safepoint.launch.rehearsal.rollback import UNDO_LOGIN, UNDONE, Copies, make_copies, rehearse_rollback
from safepoint.launch.rehearsal.undo import READING, Undoing, beside, rows_of
from safepoint.launch.wayback.proof_standing import accepted, in_words
from safepoint.launch.wayback.proving import Proven, prove_way_back, unproven
from safepoint.launch.wayback.waybacks import keep_way_back
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import base
from safepoint.postgres.target import Target, target
from safepoint.progress import Progress, Report
from safepoint.rehearsal import ground
from safepoint.rehearsal.catalogue import Picture, Table, read_picture
from safepoint.rehearsal.changes import Side, TableChange, as_before, changes
from safepoint.rehearsal.checks import (
    Check,
    judge_checkpoint,
    judge_rows,
    newly_lost,
    sequences_behind,
    standing_checks,
)
from safepoint.rehearsal.costs import make_counters
from safepoint.rehearsal.forecast import Forecast, Ratio, measure_ratio, together
from safepoint.rehearsal.invariants import ask_invariants, judge_invariants
from safepoint.rehearsal.observation import Observed, observed, watch
from safepoint.rehearsal.speeds import Io, measure_speeds, read_io
from safepoint.rehearsal.undo import Undo
from safepoint.wayback.affected.owners import unanswerable
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.trial.trial import Trial

_BEFORE = "safepoint_before"
_MAINTENANCE = "postgres"


@dataclass
class Clock:
    """How long each part took, and whom to tell when one begins.

    The parts follow each other, so their seconds add up. Undoing the migrations goes on beside those after `prepare`:
    the seconds of `undo` are those that were waited for it in the end.
    """

    report: Report
    seconds: dict[str, float]

    @contextmanager
    def part(self, name: str, what: str) -> Iterator[None]:
        """Time a part."""
        self.report(Progress(f"rehearsal: {what}", 0, 1))
        began = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)
        self.report(Progress(f"rehearsal: {what}", 1, 1))


@dataclass(frozen=True)
class _Sides:
    """The copy as it was, and the catalogue before and after the migrations."""

    before: Target
    picture: Picture
    after: Picture


@dataclass(frozen=True)
class _Ready:
    """What is known before the migrations run; `standby` is a process of `manage` that waits."""

    manage: Manage
    standby: Standby | None
    intent: Intent
    picture: Picture
    ratio: Ratio | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """What was found once the migrations had run; nothing where they failed. `took`: seconds of the launch's steps."""

    changes: tuple[TableChange, ...] = ()
    checks: tuple[Check, ...] = ()
    forecast: Forecast | None = None
    proven: Proven | None = None
    trial: Trial | None = None
    undo: Undo | None = None
    took: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stand:
    """A restored copy, and what is done with it, in order. `live` are the live server's settings; `loaded` is a
    process of the release for the copy. `beside`: the migrations are undone meanwhile."""

    plan: PlanFile
    copy: Restored
    live: Mapping[str, str]
    pointed: Pointed
    loaded: Loading | None
    clock: Clock
    cancelled: Callable[[], bool]
    beside: bool = False

    def rehearse(self) -> Rehearsal:
        """All of it."""
        # Undoing the migrations takes as long as they do: its process loads while the fence waits for the disk.
        with ExitStack() as stack:
            return self._rehearsed(stack)

    def _rehearsed(self, stack: ExitStack) -> Rehearsal:
        scratch, part = self.copy.target, self.clock.part
        with part("prepare", "prepare the copy, and ask what the migrations do"):
            ready = self._prepared()
        with part("fence", "close the fence, and make the twin"):
            undo = self._undo_loading(stack)
            fenced = RehearsedFence(self.plan, scratch, _BEFORE, self.cancelled)
            before = fenced.close()
            # It must not load while the migrations run.
            reversing = None if undo is None else undo.ready(undo.database, self.cancelled)
            began = _io(scratch)
        with part("migrate", "migrate"):
            watched = watch(ready.manage, scratch, labels=ready.intent.pending.labels, cancelled=self.cancelled)
        with part("prepare", "look at the copy"):
            speeds = measure_speeds(self._database, before, began, _io(scratch), looked=watched.sampled.seconds)
            # In the copy of before: the table may be gone, renamed or twice as large in the migrated one.
            ratio = self._ratio(before, ready.picture, ready.ratio)
        with part("fence", "open the fence"):
            fenced.open()
        ground.set_fast(scratch)
        after = _picture(scratch)
        seen = observed(watched, ready.picture, after)
        found = _Found()
        notes: tuple[str, ...] = ()
        if watched.error is None:
            release = OnCopy(self.plan, ready.manage, scratch, self.pointed.folder, self.cancelled, ready.standby)
            sides = _Sides(before, ready.picture, after)
            found = self._look(release, ready.intent, sides, fenced, (seen, Measured(ratio, speeds)), reversing)
            notes = self._unanswerable()
        notes = (*notes_on(ready.intent.pending, watched, seen, after), *notes)
        return self._concluded(ready, seen, found, fenced, notes)

    def _unanswerable(self) -> tuple[str, ...]:
        """What of the plan's own SQL a rollback could not ask: this is the first database that has the new schema."""
        with connect(self.copy.target) as connection:
            return unanswerable(connection, self.plan.wayback.affected)

    def _prepared(self) -> _Ready:
        """The copy made like the live database, and the release asked what it means to do."""
        scratch = self.copy.target
        manage = self.pointed.manage(scratch)
        standby = None if self.loaded is None else self.loaded.ready(scratch, self.cancelled)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal") as django:
            meant = django.submit(intended, self.plan, scratch, manage, standby, self.cancelled)
            unknown = ground.make_statistics(scratch)
            counted = make_counters(scratch)
            still = ground.set_like(scratch, self.live)
            intent, others = meant.result()
        picture = _picture(scratch)
        notes = (*self.copy.notes, *unknown, *still, *others, *uncounted(shared=self.copy.shared, counted=counted))
        return _Ready(manage, standby, intent, picture, self._ratio(scratch, picture), notes)

    def _ratio(self, copy: Target, picture: Picture, earlier: Ratio | None = None) -> Ratio | None:
        """How the two servers compare by the biggest table; where there was an earlier look, together with that."""
        table = _biggest(picture)
        if table is None:
            return None
        found = measure_ratio(self._database, copy, table, None if earlier is None else earlier.pages)
        return found if earlier is None else together(earlier, found)

    def _concluded(
        self, ready: _Ready, seen: Observed, found: _Found, fenced: RehearsedFence, notes: tuple[str, ...]
    ) -> Rehearsal:
        checks = (*fenced.checks, *found.checks)
        manifest = self.copy.manifest
        version = manifest.source.server_version_num
        lint = linted(self.plan, ready.intent, seen, found.changes, ready.picture, version)
        waived = None if found.proven is None or found.proven.proven else accepted(self.plan)
        notes = (*notes, *([] if waived is None else [f"the way back is not proven, {in_words(waived)}"]))
        why = (*reasons(seen, checks, found.proven, found.trial, waived=waived is not None), *breaking(lint))
        return Rehearsal(
            snapshot_id=manifest.id,
            seal=manifest.seal,
            source=manifest.source.mark,
            taken_at=manifest.taken_at.isoformat(),
            made_at=datetime.now(UTC).isoformat(),
            release=self.plan.releases.new.version,
            verdict="no-go" if why else "go",
            reasons=why,
            pending=ready.intent.pending,
            sql=ready.intent.sql,
            observed=seen,
            changes=found.changes,
            checks=checks,
            way_back=found.proven,
            trial=found.trial,
            undo=found.undo,
            lint=lint,
            forecast=found.forecast,
            notes=(*ready.notes, *notes),
            steps={**fenced.seconds, **found.took},
            seconds=dict(self.clock.seconds),
        )

    def _undo_loading(self, stack: ExitStack) -> Loading | None:
        """A process for the copy in which the migrations are undone; None where there will be none."""
        if self.copy.shared:
            return None
        return stack.enter_context(loading(self.pointed, self.copy.target.on(UNDONE), UNDO_LOGIN))

    def _look(
        self,
        release: OnCopy,
        intent: Intent,
        sides: _Sides,
        fenced: RehearsedFence,
        told: tuple[Observed, Measured],
        reversing: Standby | None,
    ) -> _Found:
        """Everything that is looked at once the copy is migrated. Undoing takes as long as migrating: where the disk
        has room for it, it goes on beside the rest, in a copy of its own."""
        scratch, part = self.copy.target, self.clock.part
        was, jobs = self.copy.manifest.fingerprint, self.plan.snapshot.jobs
        undoing = Undoing(release.manage, scratch, intent.pending, sides.before, sides.picture, was, jobs)
        with ExitStack() as stack:
            with part("prepare", "copy it"):
                apart, copies = self._copies(stack, release, sides.before, intent.operations)
            if isinstance(copies, str):
                found = self._judged(release, apart, intent, sides, copies)
                found = self._foreseen(found, fenced, told)
                with part("undo", "undo the migrations"):
                    return replace(found, undo=undoing.undo(self.cancelled))
            there = self.pointed.manage(copies.undone, UNDO_LOGIN)
            undoing = replace(undoing, manage=there, at=copies.undone, standby=reversing)
            with beside(undoing.undo, self.cancelled) as (cancelled, undone):
                stand = replace(self, cancelled=cancelled, beside=True)
                found = stand._judged(release, apart, intent, sides, copies)
                found = self._foreseen(found, fenced, told)
                with part("undo", "wait until the migrations are undone, too"):
                    return replace(found, undo=undone())

    def _copies(
        self, stack: ExitStack, release: OnCopy, before: Target, operations: Operations | None
    ) -> tuple[OnCopy | str, Copies | str]:
        """Copying waits for the disk as much as it works: all of it at once."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal") as pool:
            apart = pool.submit(started_copy, release, self.copy.manifest.source.database_bytes)
            made = make_copies(stack, self.plan, self.copy, before, operations, first=apart.result)
        return apart.result(), made

    def _judged(
        self,
        release: OnCopy,
        apart: OnCopy | str,
        intent: Intent,
        sides: _Sides,
        copies: Copies | str,
    ) -> _Found:
        """All but undoing it. What starts Django goes on beside what asks SQL: the release on the migrated copy, and
        then started on the one `apart`."""
        before, scratch, part = sides.before, self.copy.target, self.clock.part
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal") as django:
            with part("compare", "compare every table and column"):
                works = django.submit(try_release, replace(release, cancelled=self.cancelled))
                found = self._changes(before, scratch, sides.picture, sides.after)
                checks = self._checks(before, scratch, sides.picture, sides.after)
                checks = (judge_rows(found), *checks, *works.result().checks)
            # Not earlier: undoing the migrations takes longest, and there may be no third processor.
            started = django.submit(lambda: try_start(works.result().why_not or apart, self.cancelled))
            with part("way back", "take every row back"):
                proven = self._way_back(before, intent.operations)
            with part("trial", "rehearse a rollback, and start the new release"):
                trial = rehearse_rollback(copies, self.plan, scratch, proven, self.cancelled)
                begun = started.result()
        armed = copies.ready if isinstance(copies, Copies) else None
        took = {**works.result().seconds, **begun.seconds, **({} if armed is None else {"arm": armed.seconds})}
        return _Found(found, (*checks, *begun.checks), None, proven, trial, took=took)

    def _foreseen(self, found: _Found, fenced: RehearsedFence, told: tuple[Observed, Measured]) -> _Found:
        """What the window will take, now that all that was carried out here has its time."""
        size = self.copy.manifest.source.database_bytes
        prediction = foresee(self.plan, *told, size, {**fenced.seconds, **found.took})
        return replace(found, forecast=prediction, checks=(*found.checks, *fits(prediction)))

    def _way_back(self, before: Target, operations: Operations | None) -> Proven | None:
        """Undoing the migrations comes later, so both schemas are there now. None where the plan leaves it out."""
        if operations is None:
            return unproven("the migrations' operations cannot be read")
        folder = rehearsal_folder(self.plan, self.copy.manifest.id)
        version = self.plan.releases.new.version
        source = self.copy.manifest.source.mark
        # The folder is synced at the end.
        keep = partial(keep_way_back, folder, release=version, by="rehearsal", source=source, sync=False)
        if not self.plan.wayback.prove:
            keep(schemas=Schemas.of(before, self.copy.target, operations))
            return None
        return prove_way_back(
            self.plan,
            before,
            self.copy.target,
            operations,
            keep=lambda schemas, **found: keep(schemas=schemas, **found),
            cancelled=self.cancelled,
            was=self.copy.manifest.fingerprint,
            jobs=self._jobs,
        )

    @property
    def _jobs(self) -> int:
        """Sessions that may read at once. Undoing takes longest: a processor is its own."""
        return max(1, self.plan.snapshot.jobs - self.beside)

    @property
    def _database(self) -> Target:
        """The live one."""
        return target(self.plan.database)

    def _changes(self, before: Target, scratch: Target, picture: Picture, after: Picture) -> tuple[TableChange, ...]:
        was = self.copy.manifest.fingerprint
        now = rows_of(
            fingerprint.take(
                scratch,
                jobs=self._jobs,
                cancelled=self.cancelled,
                version=was.format,
                ordering=as_before(picture, after),
            )
        )
        with connect(before, options=READING) as one, connect(scratch, options=READING) as two:
            return changes(Side(one, picture, rows_of(was)), Side(two, after, now), jobs=self._jobs)

    def _checks(self, before: Target, scratch: Target, picture: Picture, after: Picture) -> tuple[Check, ...]:
        given = self.plan.rehearsal.invariants
        old = {name: query if isinstance(query, str) else query.before for name, query in given.items()}
        new = {name: query if isinstance(query, str) else query.after for name, query in given.items()}
        with connect(before) as one, connect(scratch) as two:
            was = sequences_behind(one)
            behind = tuple(found for found in sequences_behind(two) if found not in was)
            lost = newly_lost(one, two, self.plan.database.application_roles, picture, after)
            invariants = judge_invariants(ask_invariants(one, old), ask_invariants(two, new))
            size = judge_size(measure_size(two), baseline=measure_size(one), growth=self.plan.checkpoints.size_growth)
        checkpoint = judge_checkpoint("size checkpoint", size.verdict, size.detail, size.remedy)
        return (*standing_checks(picture, after, behind, lost), *invariants, checkpoint)


def _biggest(picture: Picture) -> Table | None:
    """The table to measure speed with."""
    tables = [table for table in picture.tables.values() if table.kind == "r" and table.bytes > 0]
    return max(tables, key=lambda table: table.bytes, default=None)


def _picture(database: Target) -> Picture:
    with connect(database) as connection:
        return read_picture(connection)


def _io(scratch: Target) -> Io | None:
    if base(scratch.dbname) is not None:
        return None  # its counters are everyone's
    with connect(scratch) as connection:
        return read_io(connection, sessions=True)
