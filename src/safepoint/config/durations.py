"""Durations, sizes and moments as people write them in `launch.toml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOMENT = re.compile(r"T(?P<days>[+-]\d+)?\s+(?P<hour>\d\d):(?P<minute>\d\d)")


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `10m`, `1h 30m`, `500ms` or `30d`.

    Raises:
        ValueError: the text is not a sequence of number and unit, or is longer than a timedelta can be.
    """
    matches = list(_DURATION.finditer(text.strip()))
    if not matches or _DURATION.sub("", text).strip():
        raise ValueError(f"{text!r} is not a duration such as '90s', '10m', '1h 30m' or '30d'")
    try:
        return timedelta(seconds=sum(float(m["number"]) * _SECONDS[m["unit"]] for m in matches))
    except OverflowError:
        raise ValueError(f"{text!r} is too long a time") from None


def write_duration(duration: timedelta) -> str:
    """Write a duration so that `parse_duration` reads the same one, to the microsecond: `90s`, `0.5s`."""
    return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


@dataclass(frozen=True)
class Moment:
    """A point of the timetable relative to the launch day: `T-1 18:00`, `T 09:15`, `T+3 12:00`."""

    days: int
    at: time

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read a moment.

        Raises:
            ValueError: the text is not of the form `T-1 18:00`.
        """
        match = _MOMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a moment such as 'T-1 18:00', 'T 09:15' or 'T+3 12:00'")
        try:
            at = time(int(match["hour"]), int(match["minute"]))
        except ValueError as error:
            raise ValueError(f"{text!r} is not a time of day: {error}") from None
        return cls(days=int(match["days"] or 0), at=at)

    def on(self, day: date, zone: ZoneInfo) -> datetime:
        """The moment as an instant, given the launch day and the plan's time zone.

        Raises:
            ValueError: this local time does not exist on that day (the clocks go forward over it), or
                stands twice (they go back): a launch must not guess which one is meant. Or no calendar has it.
        """
        try:
            naive = datetime.combine(day + timedelta(days=self.days), self.at)
            naive.replace(tzinfo=zone).astimezone(UTC)
        except OverflowError:
            raise ValueError(f"{self} of {day} is no day of the calendar") from None
        first, second = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
        if first.utcoffset() != second.utcoffset():
            round_trip = first.astimezone(ZoneInfo("UTC")).astimezone(zone)
            fate = "stands twice" if round_trip.replace(tzinfo=None) == naive else "does not exist"
            raise ValueError(
                f"{naive:%Y-%m-%d %H:%M} {fate} in {zone.key}: the clocks change there; choose another time"
            )
        return first

    def __str__(self) -> str:
        return f"T{self.days:+d} {self.at:%H:%M}" if self.days else f"T {self.at:%H:%M}"


def format_duration(seconds: float) -> str:
    """Show seconds as a person reads them: `0.42 s`, `12.3 s`, `4 min 10 s`, `2 h 05 min`, `3 d`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    return f"{hours / 24:.0f} d"


def format_bytes(count: float) -> str:
    """Show a size in the units that `pg_size_pretty` uses: bytes, kB, MB, GB, TB with steps of 1024."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 10240 or (unit == "bytes" and abs(count) < 1024):
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TB"
