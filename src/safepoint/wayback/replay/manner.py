"""How a replay goes about it: what every part of it needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safepoint.errors import DatabaseError
from safepoint.wayback.replay.outcome import Outcome

Policy = Literal["row", "transaction"]


class NotWhole(DatabaseError):
    """A part of what was captured cannot be carried whole; nothing was changed."""


@dataclass(frozen=True)
class Manner:
    """How a replay goes about it.

    `policy`: see `config.Wayback`. `only_whole`: nothing is put aside; where something had to be, nothing is changed
    (`NotWhole`). `same_schema`: the twin is kept like its source, so every constraint holds on what comes, and it is
    not asked. `purpose` names whose records these are in the twin. `waiting`: the rows of stashes that this launch has
    re-attached, and that wait again when it is rolled back.
    """

    policy: Policy = "row"
    only_whole: bool = False
    same_schema: bool = False
    purpose: str = "replay"
    waiting: tuple[Path, ...] = ()


def not_whole(outcome: Outcome) -> NotWhole:
    """What is raised where this came of a replay that may only carry whole batches. Pure."""
    first = outcome.aside[0] if outcome.aside else None
    shown = "" if first is None else f"{first.table} {dict(first.key)}: {first.reason}"
    return NotWhole(
        f"{outcome.put_aside} rows cannot be carried by themselves; nothing was changed.",
        subject=outcome.launch_id,
        found=shown or None,
    )
