"""What a release means to do to a database: pending migrations, operations and SQL, asked in one start of Django."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safepoint.django.managepy import Manage
from safepoint.django.operations import Operations, operations
from safepoint.django.pending import Pending, pending
from safepoint.django.piped import MIGRATIONS_SECONDS, ask_all
from safepoint.django.sqlmigrate import MigrationSQL, written
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed


@dataclass(frozen=True)
class Intent:
    """The answers. `operations` is None where they could not be told; `faults` say why, and why there is no SQL."""

    pending: Pending
    operations: Operations | None
    sql: tuple[MigrationSQL, ...]
    faults: tuple[str, ...]


def read_intent(
    manage: Manage,
    *,
    database: str = "default",
    timeout: float | None = MIGRATIONS_SECONDS,
    cancelled: Callable[[], bool] | None = None,
    standby: Standby | None = None,
) -> Intent:
    """Ask the release. Nothing is changed.

    Args:
        standby: a process of the same `manage` that waits already.

    Raises:
        CommandFailed: the project cannot be started, or its database does not answer.
    """
    where: dict[str, Any] = {"database": database, "migrations": None}
    scripts = {"pending": {"database": database}, "operations": where, "sql": where}
    answers = ask_all(manage, scripts, timeout=timeout, cancelled=cancelled, standby=standby)
    found = answers["pending"]
    if isinstance(found, CommandFailed):
        raise found
    faults = [answer.message for answer in answers.values() if isinstance(answer, CommandFailed)]
    done, text = answers["operations"], answers["sql"]
    return Intent(
        pending(found),
        None if isinstance(done, CommandFailed) else operations(done),
        () if isinstance(text, CommandFailed) else written(text),
        tuple(faults),
    )
