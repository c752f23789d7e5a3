"""The SQL that migrations would run, both ways, as the project's own `sqlmigrate` would print it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

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
