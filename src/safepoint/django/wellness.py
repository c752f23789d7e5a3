"""Whether a release works on the database that it was pointed at: system check, nothing pending, one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from safepoint.django.managepy import Manage
from safepoint.django.piped import ask


@dataclass(frozen=True)
class Wellness:
    """`errors` of `manage.py check`; `pending` migrations; how the page answered (`status` None: not at all)."""

    errors: tuple[str, ...]
    pending: tuple[str, ...]
    status: int | None
    fault: str | None


def look_well(
    manage: Manage,
    path: str,
    host: str,
    *,
    database: str = "default",
    timeout: float | None = 120,
    cancelled: Callable[[], bool] | None = None,
) -> Wellness:
    """Ask the release. The page is fetched inside its process, as a browser at `host` would.

    Raises:
        CommandFailed: the project cannot be started.
    """
    parameters = {"database": database, "path": path, "host": host}
    answer = ask(manage, "wellness", parameters, timeout=timeout, cancelled=cancelled)
    return Wellness(tuple(answer["errors"]), tuple(answer["pending"]), answer["status"], answer["fault"])
