"""A plan file that somebody edits while a launch is conducted: its conductor goes on by what it read, which is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safepoint.config import PlanFile, load
from safepoint.errors import PlanFileError
from safepoint.launch.last_read import READ, kept_of

_TIMETABLE: Final = ("timetable", "launch.date", "launch.timezone")
"""What says when: the plan that a launch began with stands, whoever goes on with it."""

_SHOWN = 5  # keys that a sentence names


@dataclass(frozen=True)
class Edited:
    """The keys of the plan file that are not as the living conductor read them; or why it cannot be used (`fault`)."""

    name: str
    keys: tuple[str, ...]
    fault: str = ""

    def __str__(self) -> str:
        if self.fault:
            return f"{self.name} cannot be used as it is now: {self.fault}."
        named = ", ".join(self.keys[:_SHOWN]) + (f" and {len(self.keys) - _SHOWN} more" * (len(self.keys) > _SHOWN))
        fixed = [key for key in self.keys if key.startswith(_TIMETABLE)]
        text = f"{self.name} was edited since the conductor read it ({named})."
        if len(fixed) < len(self.keys):
            text += (
                " It goes on by what it read: end it (Ctrl-C in its terminal); `safepoint launch` goes on where it was,"
                " by the file as it is now."
            )
        return text + " The times of a launch that has begun stay as they were." * bool(fixed)


def edited(plan_file: PlanFile, folder: Path) -> Edited | None:
    """What was edited since the conductor of this launch read it; None where nothing was, or nobody knows.

    Only of a living conductor it says anything, for the next one reads the file anew; but for a file that cannot be
    used.
    """
    if plan_file.fault:
        return Edited(plan_file.path.name, (), plan_file.fault)
    kept = kept_of(plan_file, folder)
    if kept is None:  # a former version conducts, or the share is away: no reason to answer nothing else
        return None
    before, now = _leaves(kept), _leaves(plan_file)
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return Edited(plan_file.path.name, tuple(keys)) if keys else None


class Edits:
    """Looks at the plan file of a launch that this process conducts, and says each edit once."""

    def __init__(self, plan_file: PlanFile, folder: Path) -> None:
        self._path, self._folder = plan_file.path, folder
        self._state, self._said = self._look(), ""

    def news(self) -> str:
        """What was edited since the last look; empty where nothing was."""
        state = self._look()
        if state == self._state:
            return ""
        self._state = state
        try:
            found = edited(load(self._path), self._folder)
        except PlanFileError as error:
            said = (
                f"{self._path.name} cannot be used as it is now: {error.message.splitlines()[0]} This launch, and "
                f"orders to it, go by what was read ({self._folder / READ}); nothing new can be begun."
            )
        else:
            said = "" if found is None else str(found)
            if self._said and not said:
                said = f"{self._path.name} is again as the conductor read it."
        if said == self._said:
            return ""
        self._said = said
        return said

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _leaves(plan_file: PlanFile) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def gather(name: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                gather(f"{name}.{key}" if name else str(key), inner)
        else:
            found[name] = value

    gather("", plan_file.model_dump(mode="json"))
    return found
