"""A rollback rehearsed: the migrated database is written to, and a copy of the one before is its twin."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from safepoint.backup.proof import Restored
from safepoint.config import PlanFile, format_bytes
from safepoint.django.operations import Operations
from safepoint.errors import Interrupted, SafepointError
from safepoint.launch.rehearsal.undo import furnished_copy
from safepoint.launch.wayback.proving import Proven
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.rehearsal import ground
from safepoint.wayback.capture.capture import CaptureFacts, arm
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.trial.trial import LAUNCH, Trial, failed, not_tried, try_replay

_MAINTENANCE: Final = "postgres"
UNDONE: Final = "safepoint_undone"
UNDO_LOGIN: Final = "rehearsal-undo"


@dataclass(frozen=True)
class Copies:
    """`undone`: a further copy of the migrated database, to undo the migrations in."""

    undone: Target
    ready: Ready | None


@dataclass(frozen=True)
class Ready:
    """For a rehearsed rollback: a twin, the capture (or why it cannot be armed), and a folder for the spool.

    `seconds`: how long arming took.
    """

    twin: Target
    armed: CaptureFacts | SafepointError
    folder: Path
    seconds: float


def make_copies(
    stack: ExitStack,
    plan: PlanFile,
    copy: Restored,
    before: Target,
    operations: Operations | None,
    *,
    first: Callable[[], object] = lambda: None,
) -> Copies | str:
    """Make them, gone with their server; or why there are none. Nobody may be connected to either database.

    The capture is armed here already: that waits for all transactions of the server, and undoing a migration is a
    long one. Without `wayback.prove` no rollback is rehearsed.

    Args:
        stack: removes the folder.
        operations: what the migrations did, as far as that is known.
        first: waits for whoever copies the migrated database meanwhile: a capture must not be in that copy.
    """
    if copy.shared:
        return "others use the scratch server as well, and its disk cannot be seen from here"
    place, prove = plan.state / "scratch", plan.wayback.prove
    needed, free = (1 + prove) * copy.manifest.source.database_bytes, shutil.disk_usage(place).free
    if needed > free / 2:
        many = "two more copies need" if prove else "one more copy needs"
        return f"{many} {format_bytes(needed)}, and {format_bytes(free)} are free here"
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rehearsal") as pool:
        other = pool.submit(ground.copy_of, before, "safepoint_twin") if prove else None
        undone = furnished_copy(copy.target, UNDONE)
        twin = None if other is None else other.result()
    first()
    if twin is None:
        return Copies(undone, None)
    folder = stack.enter_context(TemporaryDirectory(prefix="trial-", dir=place))
    began = time.monotonic()
    try:
        how: CaptureFacts | SafepointError = armed(plan, before, copy.target, operations)
    except SafepointError as error:
        how = error
    return Copies(undone, Ready(twin, how, Path(folder), round(time.monotonic() - began, 3)))


def armed(plan: PlanFile, before: Target, migrated: Target, operations: Operations | None) -> CaptureFacts:
    """As a launch arms it: the log is to say what rows of the migration's own tables were."""
    known = None if operations is None else Schemas.of(before, migrated, operations).mapping(plan.wayback.mappers)
    return arm(migrated, LAUNCH, plan.wayback.capture, whole=() if known is None else known.stash)


def rehearse_rollback(
    copies: Copies | str, plan: PlanFile, migrated: Target, proven: Proven | None, cancelled: Cancelled
) -> Trial | None:
    """Writes of every kind to the migrated database, carried back as a rollback would. Nothing else needs it any more.

    None where the plan does not want the way back proven.

    Raises:
        Interrupted: it was cancelled.
    """
    if proven is None:
        return None
    if proven.mapping is None or not proven.proven:
        return not_tried("the way back is not proven")
    if isinstance(copies, str):
        return not_tried(copies)
    if copies.ready is None:
        return None
    if isinstance(copies.ready.armed, SafepointError):
        return failed(copies.ready.armed)
    try:
        return try_replay(
            copies.ready.twin,
            migrated,
            proven.mapping,
            copies.ready.folder,
            copies.ready.armed,
            # The twin is another copy of the database whose catalogue it is.
            catalogues=None if proven.schemas is None else (proven.schemas.old, proven.schemas.new),
            policy=plan.wayback.policy,
            maintenance=_MAINTENANCE,
            cancelled=cancelled,
            accepted=proven.accepted,
        )
    except Interrupted:
        raise
    except SafepointError as error:
        return failed(error)
