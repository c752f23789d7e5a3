"""`manage.py migrate` in its three uses: what it would do, whether all is done, and doing it; squashed migrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from safepoint.django.managepy import Manage, applied, explain
from safepoint.django.piped import ask


@dataclass(frozen=True)
class Migrated:
    """What `migrate` said that it did. `output` is what it printed; `seconds` includes the start of Django."""

    applied: tuple[str, ...]
    seconds: float
    output: str

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "applied": list(self.applied)}


def is_clean(manage: Manage) -> bool:
    """Whether no migration is pending (`migrate --check`). With `--plan` it looks and does no more: before 4.2 Django's
    goes on where nothing is pending, and runs the handlers behind migrations, which write.

    Django answers with exit code 1 both for "pending" and for every failure: only a run that printed neither a
    traceback nor a CommandError has really looked.

    Raises:
        CommandFailed: the command failed, so that nobody knows.
    """
    result = manage.run("migrate", "--check", "--plan", check=False, timeout=120)
    if result.code == 0:
        return True
    if result.code != 1 or _failed(result.stderr):
        raise explain(result)
    return False


def migrate(manage: Manage, *, timeout: float | None = None, cancelled: Callable[[], bool] | None = None) -> Migrated:
    """Apply all pending migrations (`migrate --noinput`).

    Raises:
        CommandFailed: a migration raised; the message names it and what it said.
        LockNotAvailable: a lock was not had within `lock_timeout`; what is atomic has been undone by PostgreSQL.
        Interrupted: it was cancelled.
    """
    result = manage.run("migrate", "--noinput", timeout=timeout, cancelled=cancelled)
    return Migrated(applied(result.stdout), result.seconds, result.stdout.strip())


def replacements(manage: Manage) -> dict[str, list[str]]:
    """By each squashed migration of the release those that it stands for; all as `app.0002_name`.

    Raises:
        CommandFailed: the project cannot be started.
    """
    return ask(manage, "replacements", {})


def _failed(stderr: str) -> bool:
    return any(
        line.startswith(("Traceback (most recent call last)", "CommandError", "python"))
        or "can't open file" in line
        or "rror:" in line
        for line in stderr.splitlines()
    )
