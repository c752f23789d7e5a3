"""The state of a sequence as a value that can be compared. Pure.

A sequence obeys no snapshot: a dump has its state of when it was read, beside rows of the snapshot's instant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CYCLES = re.compile(r" cache \d+ cycle\b")
_SHOWN = 10


@dataclass(frozen=True)
class SequencePrint:
    """A sequence's state; `until` is its later state where others drew numbers while the dump ran."""

    last: int
    called: bool
    until: tuple[int, bool] | None = None

    def holds(self, found: SequencePrint, *, definition: str = "") -> bool:
        """Whether a restored state is one that this sequence had between the two looks at it.

        Args:
            definition: tells whether it may have begun again at its other end meanwhile.
        """
        if self.until is None:
            return (found.last, found.called) == (self.last, self.called)
        low, high = sorted((self.last, self.until[0]))
        if _CYCLES.search(definition) is not None and (self.last > self.until[0]) != (" increment -" in definition):
            return found.last <= low or found.last >= high
        return low <= found.last <= high

    def is_ahead_of(self, found: SequencePrint, *, definition: str) -> bool:
        """Whether a restored state, one that it holds, would give out numbers anew that were given out at the snapshot.

        Where it begins again at its other end by itself, it does that anyway.
        """
        if self.until is None or _CYCLES.search(definition) is not None:
            return False
        if found.last == self.last:
            return self.called and not found.called
        return (found.last > self.last) if " increment -" in definition else (found.last < self.last)

    def __str__(self) -> str:
        shown = f"{self.last}{'' if self.called else ' (not used yet)'}"
        return shown if self.until is None else f"{shown} to {self.until[0]}"


def of_parts(parts: list[Any]) -> SequencePrint:
    """As it stands in a fingerprint's JSON."""
    return SequencePrint(parts[0], parts[1], (parts[2], parts[3]) if len(parts) == 4 else None)


def set_back(
    expected: Mapping[str, SequencePrint], found: Mapping[str, SequencePrint], definitions: Mapping[str, str]
) -> tuple[str, ...]:
    """What to do about sequences that somebody set back while the dump ran, as a sentence; or nothing."""
    names = [
        f"{name} ({found[name]}, where it was {state.last})"
        for name, state in sorted(expected.items())
        if name in found and state.is_ahead_of(found[name], definition=definitions.get(name, ""))
    ]
    if not names:
        return ()
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return (
        "somebody set sequences back while the snapshot was taken, and its rows are from before: "
        f"{', '.join([*names[:_SHOWN], *more])}. Set them above what their columns have in a restored database "
        "(setval), or numbers are given out twice",
    )
