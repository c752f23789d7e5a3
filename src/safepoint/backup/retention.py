"""Which snapshots to keep and which may go. Pure: the clock's time is an argument, and is not trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MINIMUM = timedelta(days=30)


@dataclass(frozen=True)
class Kept:
    """A snapshot as retention sees it. `needed`: a launch that is not retired may still go back to it. `dated`: the
    clocks agreed on its time; where they did not, nobody knows how old it is.
    """

    id: str
    taken: datetime
    proven: bool
    needed: bool = False
    dated: bool = True


@dataclass(frozen=True)
class Rules:
    """How many days, weeks and months keep their newest proven snapshot, although it is older than the minimum.

    Only days (weeks, months) that have a proven snapshot count, so that a gap pushes nothing out. All in UTC.
    """

    daily: int = 0
    weekly: int = 0
    monthly: int = 0


_NO_RULES = Rules()
_PERIODS: tuple[tuple[str, Callable[[datetime], object]], ...] = (
    ("daily", lambda at: at.astimezone(UTC).date()),
    ("weekly", lambda at: at.astimezone(UTC).isocalendar()[:2]),
    ("monthly", lambda at: (at.astimezone(UTC).year, at.astimezone(UTC).month)),
)


@dataclass(frozen=True)
class Retention:
    """Reasons by snapshot id: each snapshot is in exactly one of the two."""

    keep: dict[str, str]
    drop: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """For `prune --json`."""
        return {"keep": dict(self.keep), "drop": dict(self.drop)}


def decide(snapshots: Iterable[Kept], now: datetime, keep: timedelta = MINIMUM, rules: Rules = _NO_RULES) -> Retention:
    """Decide for each snapshot.

    Promises: nothing younger than `keep` (30 days at least) goes; the newest proven one never goes; nothing that a
    launch needs goes; an old one goes only when a proven one that is newer than it stays, so an unproven or failed
    backup never pushes out a good one. Age is counted up to the newest proven snapshot, or up to `now` when that is
    earlier: a clock that was set forward makes nothing old, and where no backup succeeds any more nothing goes.
    What was taken in the future, or while the clocks did not agree, is kept, as nobody knows its age, and makes no
    other one old.

    Args:
        now: with its time zone, as `taken` of all snapshots.
        keep: how long a snapshot stays at least; less than 30 days is taken as 30 days.
        rules: what stays longer.
    """
    ordered = sorted(snapshots, key=lambda one: (one.taken, one.id))
    sure = [one for one in ordered if one.proven and one.dated and one.taken <= now]
    newest_proven = max(sure, key=lambda one: (one.taken, one.id), default=None)
    period = max(keep, MINIMUM)
    ruled = _by_rules(sure, rules)
    kept: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for one in ordered:
        reason = _reason_to_keep(one, newest_proven, now, period) or ruled.get(one.id)
        if reason is not None:
            kept[one.id] = reason
        else:
            newer = "" if newest_proven is None else f"; {newest_proven.id} is proven and newer"
            dropped[one.id] = f"older than {period.days} days{newer}"
    return Retention(kept, dropped)


def _reason_to_keep(one: Kept, newest_proven: Kept | None, now: datetime, period: timedelta) -> str | None:
    if one.needed:
        return "a launch may still go back to it"
    if not one.dated:
        return "this machine's clock and the server's were days apart when it was taken, so nobody knows its age"
    if one.taken > now:
        return "it was taken in the future: a clock was wrong, so nobody knows its age"
    if newest_proven is None:
        return "no proven snapshot would be left"
    if one.id == newest_proven.id:
        return "the newest proven one"
    if min(now, newest_proven.taken) - one.taken < period:
        return f"less than {period.days} days older than the newest proven one"
    return None


def _by_rules(proven: list[Kept], rules: Rules) -> dict[str, str]:
    """Why the rules keep what they keep: the newest of each of the newest days, weeks and months."""
    reasons: dict[str, str] = {}
    for rule, period_of in _PERIODS:
        newest = {period_of(one.taken): one.id for one in proven}  # in order of time, so the last one wins
        for number, (_period, snapshot_id) in enumerate(reversed(newest.items()), start=1):
            if number <= getattr(rules, rule):
                reasons.setdefault(snapshot_id, f"{rule} {number} of {getattr(rules, rule)}")
    return reasons
