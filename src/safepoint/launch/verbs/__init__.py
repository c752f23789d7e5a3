"""The verbs of the plans, by name. Each module holds the verbs of one stretch of a launch."""

from __future__ import annotations

import importlib
from functools import cache

from safepoint.launch.verb import Verb

_MODULES = (
    "prepare",
    "readying",
    "stop",
    "migrate",
    "application",
    "gates",
    "opening",
    "wayback",
    "between",
    "ahead",
    "carrying",
    "telling",
    "stashing",
    "rehearsing",
    "twins",
)


@cache
def _verbs() -> dict[str, Verb]:
    found: dict[str, Verb] = {}
    for module_name in _MODULES:
        module = importlib.import_module(f"{__name__}.{module_name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Verb) and kind.__module__ == module.__name__:
                found[kind.name] = kind()
    return found


def verb(name: str) -> Verb:
    """The verb of this name.

    Raises:
        KeyError: there is none: the plan was made by another version.
    """
    return _verbs()[name]
