"""Whether a release works on a copy of its database: system check, nothing pending, its caches, one page.

The copy is the rehearsal's own; caches may be the live site's. So the application is asked first where its caches are,
and in the process that goes on those that others share are replaced, before anything is set, cleared or fetched.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from safepoint.django.cache import Cleared, ClearedCache
from safepoint.django.managepy import Manage
from safepoint.django.piped import ask, ask_all
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed

HARMLESS: Final = ("django_extensions",)
"""Apps whose commands clear Django's caches and nothing else: any other may empty what the live site uses."""

Whose = Literal["private", "copy", "own", "shared"]


@dataclass(frozen=True)
class Place:
    """Where a cache of the release is: in the process, in the database, led elsewhere by the rehearsal, or shared."""

    alias: str
    backend: str
    kind: Whose
    places: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people: `default (RedisCache)`."""
        return f"{self.alias} ({self.backend.rpartition('.')[2]})"


@dataclass(frozen=True)
class Wellness:
    """`errors` of `manage.py check`; `pending` migrations, and in how many seconds a process that has loaded the
    application tells them; how the page answered (`status` None: not at all).

    `caches`: whose each cache is. `cleared`: what came of clearing them, the shared ones being replaced; None where
    `fault_of_clearing` says why. `left` are commands that were not run.
    """

    errors: tuple[str, ...]
    pending: tuple[str, ...]
    check_seconds: float
    status: int | None
    fault: str | None
    caches: tuple[Place, ...]
    cleared: Cleared | None
    fault_of_clearing: str | None
    left: tuple[str, ...]


def places_of(manage: Manage, *, cancelled: Callable[[], bool] | None = None) -> frozenset[str]:
    """Where the release's caches are, as digests: an address may hold a password. Only the settings are read.

    Raises:
        CommandFailed: the project cannot be started.
    """
    parameters = {"folder": "/nonexistent", "live": None, "replace": False}
    found = _places(ask(manage, "standins", parameters, cancelled=cancelled))
    return frozenset(place for one in found for place in one.places)


def look_well(
    manage: Manage,
    path: str,
    host: str,
    *,
    folder: str,
    live: Iterable[str] | None,
    clear: Sequence[Sequence[str]],
    cancelled: Callable[[], bool] | None = None,
    standby: Standby | None = None,
) -> Wellness:
    """Ask the release. The page is fetched inside its process, as a browser at `host` would.

    Args:
        folder: the rehearsal's own; caches of files find a place in it.
        live: where the live site's caches are, as `places_of` says it; None where that is not known: then a cache
            counts as shared unless it is in the process, the database or the folder.
        clear: the commands that clear the cache.
        standby: a process of the same `manage` that waits already; its caches stay led away.

    Raises:
        CommandFailed: the project cannot be started, or its caches cannot be led away.
    """
    away = {"folder": folder, "live": None if live is None else sorted(live), "replace": True}
    cache = {"commands": [list(one) for one in clear], "apps": list(HARMLESS), "apart": True}
    scripts: dict[str, dict[str, Any]] = {
        "standins": away,
        "cache": {**cache, "key": f"safepoint-probe-{secrets.token_hex(8)}"},
        "wellness": {"database": "default", "path": path, "host": host},
    }
    answers = ask_all(manage, scripts, cancelled=cancelled, standby=standby)
    led, found = _whole(answers["standins"]), _whole(answers["wellness"])
    emptied = answers["cache"]
    refused = emptied.message if isinstance(emptied, CommandFailed) else None
    return Wellness(
        errors=tuple(found["errors"]),
        pending=tuple(found["pending"]),
        check_seconds=float(found["check_seconds"]),
        status=found["status"],
        fault=found["fault"],
        caches=_places(led),
        cleared=None if isinstance(emptied, CommandFailed) else _cleared(emptied),
        fault_of_clearing=refused,
        left=() if isinstance(emptied, CommandFailed) else tuple(" ".join(command) for command in emptied["left"]),
    )


def _whole(answer: dict[str, Any] | CommandFailed) -> dict[str, Any]:
    if isinstance(answer, CommandFailed):
        raise answer
    return answer


def _places(answer: Any) -> tuple[Place, ...]:
    return tuple(Place(**{**one, "places": tuple(one["places"])}) for one in answer["caches"])


def _cleared(answer: Mapping[str, Any]) -> Cleared:
    return Cleared(
        ran=tuple(" ".join(command) for command in answer["ran"]),
        unknown=tuple(" ".join(command) for command in answer["unknown"]),
        caches=tuple(ClearedCache(**one) for one in answer["caches"]),
        seconds=float(answer["seconds"]),
    )
