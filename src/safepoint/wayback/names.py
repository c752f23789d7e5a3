"""The names and comments by which what the way back makes on a server is known again. Pure.

Law 1: nothing that Safepoint did not create is ever dropped. What it creates says so in a comment, whose first line
is a mark with the launch's id; what the user had written as a comment stays below it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

PREFIX: Final = "safepoint"
SCHEMA_COMMENT: Final = "SELECT obj_description(to_regnamespace(%s), 'pg_namespace')"

Made = Literal["twin", "twin, kept level", "live since the rollback", "set aside when the launch went on"]
Kept = Literal["the migrated database, swapped out"]
_ROLES: Final = (*get_args(Made), *get_args(Kept))
_MARK = re.compile(
    r"(?P<verb>made|kept) by Safepoint for launch (?P<launch>[^\s:]+): (?P<role>[^@\n]+?)(?: @ (?P<at>\S+))?"
)


@dataclass(frozen=True)
class Mark:
    """What a comment says about a database: for which launch it was made (or only kept), as what, and since when.

    `at` is the safe point's LSN of a twin. `below` is the user's own comment.
    """

    launch_id: str
    role: Made | Kept
    at: str | None = None
    below: str | None = None

    @property
    def made(self) -> bool:
        """Did Safepoint create this database (or only rename one that was there)?"""
        return self.role in get_args(Made)

    def __str__(self) -> str:
        verb = "made" if self.made else "kept"
        since = f" @ {self.at}" if self.at else ""
        below = f"\n{self.below}" if self.below else ""
        return f"{verb} by Safepoint for launch {self.launch_id}: {self.role}{since}{below}"


def read_mark(comment: str | None) -> Mark | None:
    """The mark in a comment; None where there is none."""
    first, _, below = (comment or "").partition("\n")
    match = _MARK.fullmatch(first)
    if match is None or match["role"] not in _ROLES:
        return None
    role: Made | Kept = match["role"]  # type: ignore[assignment]  # looked up just above
    mark = Mark(match["launch"], role, match["at"], below or None)
    return mark if mark.made == (match["verb"] == "made") else None


def own_words(comment: str | None) -> str | None:
    """The user's part of a comment: all of it where there is no mark."""
    mark = read_mark(comment)
    return comment if mark is None else mark.below


def made_by(launch_id: str, what: str) -> str:
    """The comment of a role, publication or the like."""
    return f"made by Safepoint for launch {launch_id}: {what}"


def short_id(launch_id: str) -> str:
    """A launch's id for the names of slots and roles: at most 31 of `a-z0-9_`, different for different launches."""
    slug = re.sub(r"[^a-z0-9]+", "_", launch_id.lower()).strip("_")[:24].rstrip("_")
    return f"{slug}_{_digest(launch_id)[:6]}"


def twin_name(live: str, launch_id: str) -> str:
    """The name of the twin; it carries the launch's id, so no other launch has the same."""
    return _named(live, "twin", launch_id)


def kept_name(live: str, launch_id: str) -> str:
    """The name under which the migrated database is kept after the swap."""
    return _named(live, "migrated", launch_id)


def capture_name(launch_id: str) -> str:
    """The name of the capture's replication slot and of its publication."""
    return f"{PREFIX}_{short_id(launch_id)}"


def feed_name(launch_id: str) -> str:
    """The name of the replication slot and publication that keep the twin level until the window."""
    return f"{PREFIX}_twin_{short_id(launch_id)}"


def between_name(launch_id: str) -> str:
    """The name of the capture of what the old release writes between a rollback's swap and the opening of the site."""
    return f"{PREFIX}_between_{short_id(launch_id)}"


def quiet_name(launch_id: str) -> str:
    """The name of the replication slot that proves quiet; gone when the proof is done."""
    return f"{PREFIX}_quiet_{short_id(launch_id)}"


def migration_role(launch_id: str) -> str:
    """The name of the login with which the migration runs."""
    return f"{PREFIX}_migrate_{short_id(launch_id)}"


def half_made_limit(launch_id: str) -> int:
    """The connection limit of a twin that is not finished.

    CREATE DATABASE cannot set a comment in the same breath, but it can set this limit, so that a twin that was left
    half-made by a kill is told from a database of someone else that happens to have its name.
    """
    return 1_000_000_000 + int(_digest(launch_id)[:7], 16)


def _named(live: str, what: str, launch_id: str) -> str:
    tail = f"_{what}_{short_id(launch_id)}"
    head = live.encode()[: 63 - len(tail)].decode("utf-8", "ignore")
    return head + tail


def _digest(launch_id: str) -> str:
    return hashlib.sha256(launch_id.encode()).hexdigest()
