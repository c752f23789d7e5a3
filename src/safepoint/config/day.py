"""The launch day in the plan file: which launch, when, who decides, and how people are let in."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from safepoint.config.durations import Moment
from safepoint.config.section import Argv, Duration, PagePath, Section


def _moment(value: Any) -> Any:
    return Moment.parse(value) if isinstance(value, str) else value


def _zone(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as 'Europe/Berlin'") from error


TimetableMoment = Annotated[
    Moment,
    BeforeValidator(_moment),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "title": "moment"}),
]
Zone = Annotated[
    ZoneInfo,
    BeforeValidator(_zone),
    PlainSerializer(lambda z: z.key, return_type=str),
    WithJsonSchema({"type": "string", "title": "time zone"}),
]


class Launch(Section):
    """Which application is launched, and when."""

    application: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    """A short name for the application: snapshots, folders and the twin bear it."""
    date: date
    """T, the launch day; the timetable counts from it."""
    timezone: Zone = Field(default_factory=lambda: ZoneInfo("UTC"), validate_default=True)
    """An IANA name such as `Europe/Berlin`; all times of the timetable are local there. UTC otherwise."""
    id: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """What this launch is called; otherwise made of application, new version and date. A second attempt on the same day
    needs another.
    """
    state: Path = Path(".safepoint")
    """The folder of ledger, snapshots and scratch servers: it needs room for twice the database."""


class Timetable(Section):
    """When each phase begins, relative to the launch day T, in the plan's time zone."""

    prepare: TimetableMoment = Moment.parse("T-1 18:00")
    """Survey, first snapshot, its proof and its copies, the rehearsal."""
    freeze: TimetableMoment = Moment.parse("T 08:00")
    """The code is frozen, the final snapshot taken and proven."""
    stop: TimetableMoment = Moment.parse("T 09:00")
    """Traffic and writes stop: the window begins."""
    migrate: TimetableMoment = Moment.parse("T 09:15")
    """The migrations begin."""
    green: TimetableMoment = Moment.parse("T 09:30")
    """The canary, then everyone."""
    watch: TimetableMoment = Moment.parse("T 10:00")
    """The checkpoints are looked at again and again."""
    retire: TimetableMoment = Moment.parse("T+3 12:00")
    """The way back is given up; until then it stands by."""

    @model_validator(mode="after")
    def _in_order(self) -> Timetable:
        moments = [(name, getattr(self, name)) for name in type(self).model_fields]
        for (name, earlier), (next_name, later) in pairwise(moments):
            if (earlier.days, earlier.at) > (later.days, later.at):
                raise ValueError(f"'{name}' ({earlier}) is later than '{next_name}' ({later})")
        return self


class Gates(Section):
    """Who decides: `rule` (by evidence; a person only where it is inconclusive) or `person` (always)."""

    stop: Literal["rule", "person"] = "rule"
    """Whether the window begins."""
    canary: Literal["rule", "person"] = "rule"
    """Whether the first clients are let in."""
    green: Literal["rule", "person"] = "rule"
    """Whether everyone is let in."""


class Cache(Section):
    """How the cache is cleared and warmed."""

    clear: tuple[Argv, ...] = (("clear_cache",),)
    """Commands of `manage.py`. Where they are none of the project's, Django's own `cache.clear()` is called."""
    warm: tuple[PagePath, ...] = ("/",)
    """Pages that are fetched, so that they are fast for the first visitor."""


class Canary(Section):
    """How many clients are let in to the new release first. Everyone else sees the maintenance page."""

    percent: int = Field(default=10, ge=1, le=50)
    """The share of the clients, in percent, who stay on it."""
    hold: Duration = timedelta(minutes=10)
    """For how long they are watched before everyone is let in."""


class Watch(Section):
    """How the launch is watched once everyone is let in."""

    duration: Duration = timedelta(hours=2)
    """For how long."""
    every: Duration = timedelta(seconds=30)
    """How often the checkpoints are looked at."""
