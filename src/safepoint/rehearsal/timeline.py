"""When each migration began and ended, read from what `migrate` printed and when it printed it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safepoint.django.managepy import is_named

_BEGUN = re.compile(r"Applying (?P<label>\S+?)\.\.\.")
# A project's own `migrate` may say behind it how long that took.
_ENDED = re.compile(r"\bOK(?:\s+[\d.]+\s?m?s)?\s*$")


@dataclass(frozen=True)
class Printed:
    """A piece of output and the second (since the start of the command) at which it came."""

    at: float
    text: str


@dataclass(frozen=True)
class Applied:
    """One migration's time. `ok` is false for the one that failed."""

    label: str
    began: float
    ended: float
    ok: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return round(self.ended - self.began, 3)


class Stamps:
    """A sink for a command's output that notes when each piece came; `mark` is called when a migration ended."""

    def __init__(self, clock: Callable[[], float], mark: Callable[[], None]) -> None:
        self.pieces: list[Printed] = []
        self._clock = clock
        self._mark = mark

    def write(self, chunk: bytes) -> int:
        """Take a piece; never waits."""
        text = bytes(chunk).decode("utf-8", errors="replace")
        self.pieces.append(Printed(self._clock(), text))
        if " OK" in text:
            self._mark()
        return len(chunk)

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)


def timeline(pieces: Sequence[Printed], end: float, labels: Sequence[str] | None = None) -> tuple[Applied, ...]:
    """The migrations with their times. `end` is when the command was over.

    Args:
        labels: the pending ones in their order: a migration may print a line that looks like Django's own.

    Django prints `  Applying app.0001_name...` before and ` OK` after each; what a migration prints itself may
    stand between.
    """
    text = "".join(piece.text for piece in pieces)
    begun = list(_BEGUN.finditer(text))
    found = [(one["label"], one) for one in begun] if labels is None else _in_order(begun, labels)
    result = []
    for number, (label, match) in enumerate(found):
        last = number + 1 == len(found)
        part = text[match.end() : len(text) if last else found[number + 1][1].start()]
        # Another migration follows only when this one went well; the last one says so by itself.
        ok = not last or bool(_ENDED.search(part.rstrip()))
        place = match.end() + max(part.rfind("OK"), 0)
        ended = _time_of(pieces, place) if ok else end
        result.append(Applied(label, _time_of(pieces, match.end() - 1), ended, ok))
    return tuple(result)


def _in_order(found: Sequence[re.Match[str]], labels: Sequence[str]) -> list[tuple[str, re.Match[str]]]:
    """The first match of each label behind that of the one before it."""
    kept: list[tuple[str, re.Match[str]]] = []
    left = iter(found)
    for label in labels:
        match = next((one for one in left if is_named(label, one["label"])), None)
        if match is None:
            break
        kept.append((label, match))
    return kept


def _time_of(pieces: Sequence[Printed], place: int) -> float:
    """When the character at this place of the whole text came."""
    for piece in pieces:
        if place < len(piece.text):
            return piece.at
        place -= len(piece.text)
    return pieces[-1].at if pieces else 0.0
