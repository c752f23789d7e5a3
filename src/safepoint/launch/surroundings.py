"""The variables that the releases have from the conductor: who starts them from another terminal may lack some.

A command takes the environment of its conductor along, and no `retry` changes that of a process. So where the settings
read a variable that was set on the launch day, a conductor without it is refused before it closes a site that it could
not open again. Names only: what the variables hold is never looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from safepoint.config import HereHost, PlanFile
from safepoint.errors import Refused

FACT = "environment"
"""The names are recorded under it when the code is frozen."""

_OF_ANY_TERMINAL = {"HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "USER"}


def names_set(plan: PlanFile, read: Iterable[str]) -> list[str]:
    """Of the variables that the settings read those that the releases have from here, and not from the plan file."""
    if not isinstance(plan.host(plan.application.host), HereHost):
        return []  # there they have the environment of that machine, or container
    given = _OF_ANY_TERMINAL | set(plan.releases.old.env) | set(plan.releases.new.env)
    # Settings that put names together have none of them in their source.
    known = {*read, *plan.application.led_by}
    return sorted(name for name in known if name in os.environ and name not in given)


def refuse_other(fact: Mapping[str, Any] | None, launch_id: str) -> None:
    """Refuse to conduct where a variable of the launch day is missing.

    Raises:
        Refused: with the names.
    """
    missing = [name for name in (fact or {}).get("names", ()) if name not in os.environ]
    if missing:
        raise Refused(
            f"{', '.join(missing)}: set where this launch began, read by the application's settings, and not set here. "
            "Nothing is begun, and all is as it was.",
            subject=launch_id,
            remedy="The releases are started with the environment of this terminal: set what they need here as it was "
            "there (what they do not need may be empty), then give the command again.",
        )
