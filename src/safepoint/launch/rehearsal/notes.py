"""What a rehearsal says of itself: what its reader should know, and why the launch must not be begun. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from safepoint.django.pending import Pending
from safepoint.launch.wayback.proof_standing import REMEDY
from safepoint.launch.wayback.proving import Proven
from safepoint.rehearsal.catalogue import Picture
from safepoint.rehearsal.checks import Check
from safepoint.rehearsal.observation import Observed, Watched
from safepoint.wayback.trial.trial import Trial

_SHARED = (
    "left out, because others use the scratch server as well: the live server's settings, what statements cost, how "
    "long it waited for its disk, the fence, a rollback rehearsed, and the start of the release; what others do there "
    "slows the migration, and is in the bytes of log"
)


def notes_on(pending: Pending, watched: Watched, seen: Observed, after: Picture) -> tuple[str, ...]:
    """What a reader should know of the run, and of what a failure leaves behind. Pure."""
    notes: list[str] = []
    if pending.migrations and not watched.sampled.looks:
        notes.append("it was over before it was looked at: nothing is known of its locks")
    if not pending.migrations:
        notes.append("no migration is pending: the schema stays as it is")
    if watched.error is not None:
        stays = [run.label for run in watched.runs if run.ok]
        invalid = [index.name for index in after.indexes.values() if not index.valid]
        notes.append(f"after the failure these migrations stay applied: {', '.join(stays) or 'none'}")
        if invalid:
            notes.append(f"it leaves invalid indexes behind: {', '.join(invalid)}")
        notes += _half_done(pending, seen)
    if watched.sampled.fault:
        notes.append(f"the looking ended early ({watched.sampled.fault}): locks and rewrites may be missing")
    return tuple(notes)


def _half_done(pending: Pending, seen: Observed) -> list[str]:
    """Of a migration that failed outside of a transaction, that its first half stays. Pure."""
    atomic = {one.label: one.atomic for one in pending.migrations}
    run = next((one for one in seen.migrations if not one.ok), None)
    if run is None or atomic.get(run.label, True):
        return []
    rows = f", {run.rows:,} rows that it wrote among it" if run.rows else ""
    return [
        f"{run.label} is not atomic and stopped half-way: what it did until then stays{rows}, it is not recorded as "
        "applied, and the next try begins it anew"
    ]


def uncounted(*, shared: bool, counted: bool) -> tuple[str, ...]:
    """What this scratch server cannot tell. Pure."""
    if shared:
        return (_SHARED,)
    if counted:
        return ()
    return ("the scratch server has no pg_stat_statements: rows and temporary bytes are not told by migration",)


def reasons(
    seen: Observed, checks: Sequence[Check], proven: Proven | None, trial: Trial | None, *, waived: bool
) -> tuple[str, ...]:
    """Why the launch must not be begun, but for what the lint says. Pure.

    Args:
        waived: a person has accepted that the way back of this release is not proven.
    """
    failed = [f"{check.name}: {check.summary}" for check in checks if check.verdict == "fail"]
    if seen.error is not None:
        failed.insert(0, f"migrate failed at {seen.failed or 'its start'}: {seen.error.message}")
    return (*failed, *([] if waived else _uncarried(proven)), *_untrue(trial))


def _uncarried(proven: Proven | None) -> tuple[str, ...]:
    """Without a proof a rollback carries nothing of what people wrote."""
    if proven is None or proven.proven:
        return ()
    more = f", and {len(proven.doubts) - 1} more" if len(proven.doubts) > 1 else ""
    return (f"the way back is not proven ({proven.doubts[0].rstrip('.')}{more}): {REMEDY}",)


def _untrue(trial: Trial | None) -> tuple[str, ...]:
    """A rollback that would not carry what people wrote is a fault, whatever the cause."""
    if trial is None or trial.verdict != "differs":
        return ()
    return (f"the rehearsed rollback does not give back what was written: {'; '.join(trial.reasons[:3])}",)
