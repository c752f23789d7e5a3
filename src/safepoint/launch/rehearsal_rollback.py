"""A rollback rehearsed on two further copies: one of the migrated database that is written to, one as the twin."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from safepoint.backup.proof import Restored
from safepoint.config import PlanFile, format_bytes
from safepoint.errors import Interrupted, SafepointError
from safepoint.launch.proving import Proven
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.rehearsal import ground
from safepoint.wayback.mapping import WayBack
from safepoint.wayback.trial import Trial, failed, not_tried, try_replay

_MAINTENANCE: Final = "postgres"


@dataclass(frozen=True)
class Copies:
    """A database at either schema, the mapping between them, and a folder for the spool."""

    live: Target
    twin: Target
    mapping: WayBack
    folder: Path


def make_copies(stack: ExitStack, plan: PlanFile, copy: Restored, before: Target, proven: Proven) -> Copies | Trial:
    """Copies of both sides, gone with the stack; or why no rollback is rehearsed. Nobody may be connected to either."""
    if proven.mapping is None or not proven.proven:
        return not_tried("the way back is not proven")
    place = plan.state / "scratch"
    needed, free = 2 * copy.manifest.source.database_bytes, shutil.disk_usage(place).free
    if needed > free / 2:
        return not_tried(f"two more copies need {format_bytes(needed)}, and {format_bytes(free)} are free here")
    spool = stack.enter_context(TemporaryDirectory(prefix="trial-", dir=place))
    made = []
    for source, name in ((copy.target, "safepoint_live"), (before, "safepoint_twin")):
        made.append(ground.copy_of(source, name))
        stack.callback(ground.drop_copy, made[-1])
    return Copies(made[0], made[1], proven.mapping, Path(spool))


def rehearse_rollback(copies: Copies | Trial | None, plan: PlanFile, cancelled: Cancelled) -> Trial | None:
    """Writes of every kind on the migrated copy, carried back as a rollback would.

    Raises:
        Interrupted: it was cancelled.
    """
    if not isinstance(copies, Copies):
        return copies
    try:
        return try_replay(
            copies.twin,
            copies.live,
            copies.mapping,
            copies.folder,
            how=plan.wayback.capture,
            policy=plan.wayback.policy,
            maintenance=_MAINTENANCE,
            cancelled=cancelled,
        )
    except Interrupted:
        raise
    except SafepointError as error:
        return failed(error)
