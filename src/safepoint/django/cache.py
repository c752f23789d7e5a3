"""Clearing the application's caches, with a proof, and warming the pages that people ask for first."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safepoint.django.managepy import Manage
from safepoint.django.piped import ask
from safepoint.django.standby import Standby
from safepoint.errors import CommandFailed

# These keep their entries inside one process: clearing them in `manage.py` reaches nobody else, and a restart of
# the application's processes has emptied them already.
_PRIVATE = ("locmem.LocMemCache", "dummy.DummyCache")


@dataclass(frozen=True)
class ClearedCache:
    """One cache: a key was set before (`held`) and found gone afterwards (`gone`).

    `fallback` says that the commands left it as it was and that the cache's own `clear` was called. `shared` is
    False where entries live inside each process, so that only a restart of the application empties them.
    """

    alias: str
    backend: str
    held: bool
    gone: bool | None
    fallback: bool
    error: str | None

    @property
    def shared(self) -> bool:
        """Whether the application's processes see this cache at all from here."""
        return not self.backend.endswith(_PRIVATE)

    @property
    def verdict(self) -> str:
        """`cleared`, `kept` (a fault), `private` (emptied by the restart) or `unreachable` (holds nothing)."""
        if not self.shared:
            return "private"
        if not self.held:
            return "unreachable"
        return "cleared" if self.gone else "kept"


@dataclass(frozen=True)
class Cleared:
    """What cleared the caches: commands that ran, commands that the project does not have, and each cache."""

    ran: tuple[str, ...]
    unknown: tuple[str, ...]
    caches: tuple[ClearedCache, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every shared cache was proven empty."""
        return all(cache.verdict in ("cleared", "private") for cache in self.caches)

    @property
    def used(self) -> str:
        """How it was done, in words."""
        words = [f"manage.py {command}" for command in self.ran]
        if any(cache.fallback for cache in self.caches):
            words.append("Django's cache.clear()")
        done = " and ".join(words) or "nothing had to be cleared"
        missing = ", ".join(self.unknown)
        return f"{done} (no such command here: {missing})" if missing else done

    def summary(self) -> str:
        """What was proven and how, in one sentence."""
        by_verdict: dict[str, list[str]] = {}
        for one in self.caches:
            by_verdict.setdefault(one.verdict, []).append(one.alias)
        words = {
            "cleared": "proven empty: {}",
            "private": "inside the processes, emptied by their restart: {}",
            "unreachable": "holds nothing, not even what was just set: {}",
        }
        parts = [words[verdict].format(", ".join(names)) for verdict, names in sorted(by_verdict.items())]
        return f"{self.used}; {'; '.join(parts) or 'the project has no cache'}"

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "used": self.used,
            "ran": list(self.ran),
            "unknown": list(self.unknown),
            "caches": [{**asdict(one), "verdict": one.verdict} for one in self.caches],
            "seconds": round(self.seconds, 3),
        }


def clear_caches(
    manage: Manage,
    commands: Sequence[Sequence[str]],
    *,
    cancelled: Callable[[], bool] | None = None,
    standby: Standby | None = None,
) -> Cleared:
    """Run the commands that clear the cache, then clear what they left, and prove it: one start of Django.

    `clear_cache` is no command of Django's own (django-extensions brings one, and that clears the default cache
    only): what a project does not have is passed over, and said.

    Args:
        standby: a process of `manage` that has loaded the application already.

    Raises:
        CommandFailed: a command failed, or a shared cache still holds the key that was set before.
    """
    began = time.monotonic()
    parameters = {"commands": [list(c) for c in commands], "key": f"safepoint-probe-{secrets.token_hex(8)}"}
    answer = ask(manage, "cache", parameters, cancelled=cancelled, standby=standby)
    cleared = Cleared(
        ran=tuple(" ".join(command) for command in answer["ran"]),
        unknown=tuple(" ".join(command) for command in answer["unknown"]),
        caches=tuple(ClearedCache(**one) for one in answer["caches"]),
        seconds=time.monotonic() - began,
    )
    kept = [one for one in cleared.caches if one.verdict == "kept"]
    if kept:
        raise CommandFailed(
            f"The cache {kept[0].alias!r} ({kept[0].backend}) still holds a key that was set before it was cleared.",
            subject=kept[0].alias,
            found=kept[0].error,
            remedy="Clear it by hand before traffic returns: pages of the old release would be served from it.",
        )
    return cleared


@dataclass(frozen=True)
class Warmed:
    """One path that was fetched to fill the cache. `status` is None where no answer came."""

    path: str
    status: int | None
    seconds: float
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def warm(
    base_url: str, paths: Sequence[str], *, headers: Mapping[str, str] | None = None, timeout: float = 20
) -> tuple[Warmed, ...]:
    """Fetch each path once, as a visitor without login would. A path that fails is in the answer, never an error.

    Args:
        headers: `Host`, `X-Forwarded-Proto` and the like, where `base_url` is not the address that people use.
        timeout: seconds for each path.
    """
    import httpx

    warmed = []
    secure = base_url.startswith("https:")  # else no certificates are read, which takes longer than a page
    with httpx.Client(
        base_url=base_url, headers=dict(headers or {}), timeout=timeout, trust_env=False, verify=secure
    ) as client:
        for path in paths:
            began = time.monotonic()
            try:
                status, error = client.get(path).status_code, None
            except httpx.HTTPError as failure:
                status, error = None, f"{type(failure).__name__}: {failure}"
            warmed.append(Warmed(path, status, round(time.monotonic() - began, 3), error))
    return tuple(warmed)
