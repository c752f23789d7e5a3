"""An order to end a rehearsal, obeyed wherever it is: also where it waits for a statement, in whichever thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from safepoint.errors import Interrupted, SafepointError
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import base
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never

_LOOK_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 1.0
"""In which whoever looks for an order has ended by itself."""

_END_SESSIONS: Final = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid()
      and (%(run)s::text is null or starts_with(datname, %(run)s))
"""


@contextmanager
def obeying(cancelled: Cancelled) -> Iterator[None]:
    """Whatever is raised once the order came is its consequence.

    Raises:
        Interrupted: `cancelled` is true at the end, however it came to it.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, Interrupted) or not cancelled():
            raise
        raise Interrupted("The rehearsal was ended by an order.") from error
    if cancelled():
        raise Interrupted("The rehearsal was ended by an order.")


@contextmanager
def sessions_end(scratch: Target, cancelled: Cancelled) -> Iterator[None]:
    """While this lasts, an order ends every session of the scratch server, which is removed next anyway.

    Where others use that server as well, only those of this run's databases.
    """
    if cancelled is never:
        yield
        return
    left = threading.Event()

    def look() -> None:
        while not left.wait(_LOOK_SECONDS):
            if cancelled() and not left.wait(_GRACE_SECONDS):
                _end_sessions(scratch)

    thread = threading.Thread(target=look, name="rehearsal-order", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join(10)


def _end_sessions(scratch: Target) -> None:
    with suppress(psycopg.Error, SafepointError), connect(scratch.on("postgres")) as connection:
        connection.execute(_END_SESSIONS.encode(), {"run": base(scratch.dbname)})
