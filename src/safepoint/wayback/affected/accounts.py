"""What a user is told: the changes of theirs that were not carried whole, and how many fared how. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from safepoint.wayback.affected.fates import KEPT, Fate


@dataclass(frozen=True)
class Item:
    """A changed row that was not carried whole, by the last change of it that was not."""

    at: str
    table: str
    action: str
    key: str
    fate: Fate
    reason: str

    @property
    def told(self) -> Told:
        """What its user is told of it."""
        return told_of(self.fate, self.reason)


Told = Literal["gone", "short", "away"]
TOLD: Final[tuple[Told, ...]] = ("gone", "short", "away")


def told_of(fate: str, reason: str) -> Told:
    """What a user is told of a change that was not carried whole: that it is gone, that a part of it is and does not
    come back by itself, or that what is missing comes back with the next launch. Pure.
    """
    if fate == "not carried":
        return "gone"
    return "away" if fate == "stashed" or reason.startswith(KEPT) else "short"


@dataclass(frozen=True)
class Account:
    """One user: how many changes fared how, and the first rows that were not carried whole, by what is told.

    `user` is empty for the rows that lead to no user. `rows`: how many each thing is told of, however often each was
    changed.
    """

    user: str
    first: str
    last: str
    carried: int
    part: int
    stashed: int
    lost: int
    items: tuple[Item, ...] = ()
    name: str = ""
    email: str = ""
    rows: Mapping[Told, int] = field(default_factory=dict)

    @property
    def affected(self) -> int:
        """Changes that were not carried whole."""
        return self.part + self.stashed + self.lost

    def of(self, told: Told) -> list[Item]:
        """The items of which this is told."""
        return [item for item in self.items if item.told == told]

    def left(self, *told: Told) -> int:
        """How many more rows than its items there are of which this is told."""
        return sum(max(0, self.rows.get(one, 0) - len(self.of(one))) for one in told)
