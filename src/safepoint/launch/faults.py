"""Points at which a test may kill the conductor, as a power cut would: at every boundary of every step.

`SAFEPOINT_KILL_AT=migrate:applied` ends the process with SIGKILL when it reaches that boundary. Without the
variable this does nothing. The boundaries of a step are `begun` (recorded, nothing done), `applied` (done, not
recorded) and `recorded` (in the ledger, not yet in the engine).
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SAFEPOINT_KILL_AT"


def boundary(name: str) -> None:
    """Die here if a test asked for it."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
