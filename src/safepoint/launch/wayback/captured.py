"""The checkpoint of a launch's capture, by what its server keeps for it."""

from __future__ import annotations

from safepoint.checkpoints import capture as checkpoint
from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.config import PlanFile
from safepoint.postgres.target import Target
from safepoint.wayback.capture import capture


def look(
    plan: PlanFile, target: Target, facts: capture.CaptureFacts, transactions: int, *, follower: str | None = None
) -> Checkpoint:
    """Look and judge; changes nothing.

    Args:
        transactions: spooled since the launch.
        follower: why the twin is no longer followed live, where that is so.

    Raises:
        CaptureLost: the slot is gone, or the server threw away what was not read yet.
    """
    lag = capture.lag(target, facts)
    return checkpoint.judge(
        transactions=transactions,
        retained=lag.retained_bytes,
        limit=int(plan.checkpoints.capture_wal_gb * 1024**3),
        status=lag.wal_status,
        safe=lag.safe_bytes,
        idle_timeout=lag.idle_timeout,
        every=plan.watch.every.total_seconds(),
        follower=follower,
    )
