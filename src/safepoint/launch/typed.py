"""Commands in texts as they have to be typed: with the plan file, where it is not the one that a command takes itself.

A remedy is copied. Without the option it would act on another launch, or on none. Pure.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

COMMANDS: Final = (
    *("doctor", "rehearse", "plan", "launch", "status", "go", "hold", "retry", "abort", "rollback", "return"),
    *("follow", "retire", "watch", "report", "backup", "verify", "restore", "backups", "prune"),
)
"""Those that take a plan file."""

_COMMAND: Final = re.compile(rf"`(safepoint (?:{'|'.join(COMMANDS)})\b(?![\w-])[^`]*)`")


def option(plan_file: str) -> str:
    """What names it behind a command; empty where it need not be named."""
    return "" if plan_file in ("", "launch.toml") else f" --plan {shlex.quote(plan_file)}"


def typed(text: str, plan_file: str) -> str:
    """The text, each command in backquotes as it reaches the launch of this plan file."""
    named = option(plan_file)
    if not named or "`safepoint " not in text:
        return text
    return _COMMAND.sub(lambda found: found[0] if " --plan " in found[1] else f"`{found[1]}{named}`", text)


def typed_in(found: Any, plan_file: str) -> Any:
    """The same for all texts of a JSON value."""
    if isinstance(found, str):
        return typed(found, plan_file)
    if isinstance(found, dict):
        return {key: typed_in(value, plan_file) for key, value in found.items()}
    return [typed_in(value, plan_file) for value in found] if isinstance(found, list) else found
