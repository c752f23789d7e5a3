"""The SQL that migrations would run, both ways, as the project's own `sqlmigrate` would print it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safepoint.django.managepy import Manage
from safepoint.django.piped import MIGRATIONS_SECONDS, ask

# Before the statements of each operation Django writes three lines of comment; the middle one describes it.
_DESCRIBED = re.compile(r"^-- (?P<text>\S.*)$")


@dataclass(frozen=True)
class MigrationSQL:
    """One migration. A way that cannot be written down is None, and its error says why."""

    label: str
    forward: str | None
    forward_error: str | None
    backward: str | None
    backward_error: str | None

    def as_json(self) -> dict[str, str | None]:
        """JSON-safe."""
        return asdict(self)

    def operation_at(self, line: int) -> str | None:
        """The description of the operation that a line (from 1) of `forward` belongs to. Pure."""
        found = None
        lines = (self.forward or "").splitlines()
        for before, text in zip([None, *lines], lines[:line], strict=False):
            described = _DESCRIBED.match(text)
            if before == "--" and described is not None:
                found = described["text"]
        return found


def read_sql(
    manage: Manage,
    migrations: Sequence[str] | None = None,
    *,
    database: str = "default",
    timeout: float | None = MIGRATIONS_SECONDS,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[MigrationSQL, ...]:
    """Ask the release for the SQL of its pending migrations (or of those named among them). Nothing is changed.

    Raises:
        CommandFailed: the project cannot be started, or its database does not answer.
    """
    parameters = {"database": database, "migrations": None if migrations is None else list(migrations)}
    return written(ask(manage, "sql", parameters, timeout=timeout, cancelled=cancelled))


def written(answer: dict[str, Any]) -> tuple[MigrationSQL, ...]:
    """Read the script's answer. Pure."""
    return tuple(
        MigrationSQL(
            one["label"],
            _text(one["forward"]),
            one["forward_error"],
            _text(one["backward"]),
            one["backward_error"],
        )
        for one in answer["migrations"]
    )


def _text(statements: list[str] | None) -> str | None:
    return None if statements is None else "\n".join(statements) + "\n"
