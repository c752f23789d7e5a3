"""Materialised views: a dump has no rows of theirs, so a restore computes them, last of all.

Their queries may fail there, though nothing is wrong with the snapshot: a foreign server is not reached, a row has come
since that a cast refuses, the owner has lost a grant. Then the view stays without data, which is told; all else is
restored and compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from safepoint.backup.particulars import BY_OTHERS
from safepoint.backup.prints import Fingerprint
from safepoint.backup.statements import names, unquoted
from safepoint.hosts.command import Command, Host
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled

_REFRESH: Final = re.compile(rb"\d+; \d+ \d+ MATERIALIZED VIEW DATA ")
# Of a domain, too, and not valid: `pg_restore` knows of no table that it has to wait for, and with several jobs it is
# there before the rows that it would refuse.
_CHECK: Final = re.compile(rb"\d+; \d+ \d+ CHECK CONSTRAINT ")
_ON_CONSTRAINT: Final = re.compile(rb"\d+; \d+ \d+ COMMENT .* CONSTRAINT .* ON ")
# With several jobs a grant of a role that owns nothing may be there before its own right to enter the schema.
_GRANT: Final = re.compile(rb"\d+; \d+ \d+ ACL (?!- SCHEMA )")
# With several jobs what was said of a partition's trigger may come before its table's, which makes it.
_TRIGGER: Final = re.compile(rb"\d+; \d+ \d+ TRIGGER (?P<named>.*)")
_OF_PARTITION: Final = re.compile(r'(?P<trigger>"(?:[^"]|"")+"|\S+) on (?P<table>.+)', re.DOTALL)
# Up to version 16 nothing keeps them from hearing what the rest of a restore does.
_HEARS: Final = re.compile(rb"\d+; \d+ \d+ (?:EVENT TRIGGER |(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER )")
_FAILED: Final = re.compile(
    r"ERROR:\s+(?P<why>[^\n]*)(?:(?!\nCommand was: ).)*\nCommand was: REFRESH MATERIALIZED VIEW (?P<view>[^\n]+);",
    re.DOTALL,
)
_TOO_EARLY: Final = "has not been populated"
_EMPTY: Final = """
    select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'm' and not c.relispopulated order by 1
"""


def list_archive(host: Host, command: Command, path: Path, cancelled: Cancelled) -> Path:
    """Let `pg_restore --list` write into a file, which is given back: of many objects it has many megabytes.

    Raises:
        CommandFailed, Interrupted: as `Host.stream`.
    """
    with path.open("wb") as file:
        host.stream(command, stdout=file, cancelled=cancelled)
    return path


@dataclass(frozen=True)
class Lists:
    """Files for `pg_restore --use-list`: such as follow each other, the refreshes, and what comes after these.

    None: there is nothing of the kind; among `first`: all of it, for nothing has to wait for anything.
    """

    first: tuple[Path | None, ...]
    refreshes: Path | None = None
    last: Path | None = None


def write_lists(folder: Path, listing: Path, source: Fingerprint) -> Lists:
    """Write them.

    Args:
        listing: what `pg_restore --list` printed.
    """
    names = ("first", "late", "refreshes", "last")
    first, late, refreshes, last = paths = [folder / f"{name}.list" for name in names]
    has_checks = any(_CHECK.match(line) for line in _lines(listing))
    waiting = _Waiting(source)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for line in _lines(listing):
            is_check = has_checks and (_CHECK.match(line) or _ON_CONSTRAINT.match(line))
            waits = is_check or waiting.has(line)
            place = 2 if _REFRESH.match(line) else 3 if _HEARS.match(line) else 1 if waits else 0
            files[place].write(line)
    found = {path for path in paths if path.stat().st_size}
    if not found & {late, refreshes}:
        return Lists((None,))
    return Lists(
        (first, late) if late in found else (first,),
        refreshes if refreshes in found else None,
        last if last in found else None,
    )


def waiting_last(lines: Sequence[str], source: Fingerprint) -> tuple[list[str], list[str]]:
    """Lines of a part, and those of them that have to wait: grants, where others than owners gave some, and what was
    said of partitions' triggers. Pure.
    """
    waiting = _Waiting(source)
    late = {line for line in lines if waiting.has(line.encode())}
    return [line for line in lines if line not in late], [line for line in lines if line in late]


class _Waiting:
    """Knows which lines have to wait for others that `pg_restore` does not let them wait for."""

    def __init__(self, source: Fingerprint) -> None:
        # Former formats do not say it.
        self._grants = source.format < 5 or any(name.startswith(BY_OTHERS) for name in source.ownership)
        self._triggers = tuple(_as_listed(name) for name in source.structure.get("trigger of a partition", {}))

    def has(self, line: bytes) -> bool:
        """Whether a line of the table of contents is one of them."""
        if self._grants and _GRANT.match(line):
            return True
        found = _TRIGGER.match(line) if self._triggers else None
        return found is not None and found["named"].startswith(self._triggers)


def _as_listed(trigger: str) -> bytes:
    """A partition's trigger, by how a fingerprint names it, as the table of contents does: without quotes."""
    match = _OF_PARTITION.fullmatch(trigger)
    parts = (*names(match["table"]), unquoted(match["trigger"])) if match is not None else (trigger,)
    return f"{' '.join(parts)} ".replace("\n", " ").encode()


def _lines(listing: Path) -> Iterator[bytes]:
    with listing.open("rb") as lines:
        yield from lines


def fill(refreshes: Path, refresh: Callable[[Path], str], look: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """Refresh what a list has; the views that could not be, each with the reason.

    A dump knows what a view's query names, and not what is read by a function that it calls: one that came before
    what it needs is refreshed again, as long as something comes of it.

    Args:
        refresh: lets `pg_restore` do what a list says; what it wrote.
        look: gives, from all that it wrote, the views that are without data (see `unfilled`).
    """
    said = refresh(refreshes)
    left, again = look(said), refreshes.with_name("again.list")
    while early := [f" {' '.join(names(name))} ".encode() for name, why in left.items() if _TOO_EARLY in why]:
        again.write_bytes(b"".join(line for line in _lines(refreshes) if any(name in line for name in early)))
        said += f"\n{refresh(again)}" if again.stat().st_size else ""
        before, left = len(left), look(said)
        if len(left) == before:
            break
    return left


def unfilled(target: Target, source: Fingerprint, said: str) -> dict[str, str]:
    """The materialised views that are without data in a copy, and not in its source; each with the reason.

    Args:
        said: what `pg_restore` wrote while it refreshed them.
    """
    relations = source.structure.get("relation", {})
    reasons = {match["view"]: match["why"] for match in _FAILED.finditer(said)}
    left: dict[str, str] = {}
    with connect(target, options=OWN_NAMES) as connection:
        for name in [str(name) for (name,) in connection.execute(_EMPTY)]:
            if name in relations and not relations[name].startswith("materialised view without data"):
                why = reasons.get(name) or _refused(connection, name)
                left |= {name: why} if why else {}
    return left


def _refused(connection: Connection, view: str) -> str | None:
    """Why a view cannot be refreshed, where `pg_restore` did not say that of its name: it writes in the encoding of the
    database, in which a name that is not ASCII has other bytes. None where it can be.
    """
    try:
        # The name is PostgreSQL's own, quoted where it has to be (`_EMPTY`).
        connection.execute(f"REFRESH MATERIALIZED VIEW {view}".encode())
    except psycopg.Error as error:
        return error.diag.message_primary or " ".join(str(error).split()) or "it does not say why"
    return None


def notes(views: dict[str, str]) -> tuple[str, ...]:
    """A sentence for each. Pure."""
    return tuple(
        f"the materialised view {name} is without data, for its query fails there ({why}): REFRESH MATERIALIZED VIEW "
        f"{name} once it does not"
        for name, why in views.items()
    )
