"""Materialised views: a dump has no rows of theirs, so a restore computes them, last of all.

Their queries may fail there, though nothing is wrong with the snapshot: a foreign server is not reached, a row has come
since that a cast refuses, the owner has lost a grant. Then the view stays without data, which is told; all else is
restored and compared.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from safepoint.backup.prints import Fingerprint
from safepoint.postgres.connections import Connection

_REFRESH: Final = re.compile(r"\d+; \d+ \d+ MATERIALIZED VIEW DATA ")
_FAILED: Final = re.compile(
    r"ERROR:\s+(?P<why>[^\n]*)(?:(?!\nCommand was: ).)*\nCommand was: REFRESH MATERIALIZED VIEW (?P<view>[^\n]+);",
    re.DOTALL,
)
_EMPTY: Final = """
    select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'm' and not c.relispopulated order by 1
"""


def write_lists(folder: Path, listing: str) -> tuple[Path | None, Path | None]:
    """Two files for `pg_restore --use-list`: all but the refreshes, and these. None, None where there are no refreshes.

    Args:
        listing: what `pg_restore --list` printed.
    """
    parts: dict[bool, list[str]] = {False: [], True: []}
    for line in listing.splitlines():
        parts[_REFRESH.match(line) is not None].append(line)
    if not parts[True]:
        return None, None
    paths = folder / "first.list", folder / "refreshes.list"
    for path, lines in zip(paths, parts.values(), strict=True):
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return paths


def unfilled(connection: Connection, source: Fingerprint, said: str) -> dict[str, str]:
    """The materialised views that are without data in a copy, and not in its source; each with the reason.

    Args:
        said: what `pg_restore` wrote while it refreshed them.
    """
    relations = source.structure.get("relation", {})
    reasons = {match["view"]: match["why"] for match in _FAILED.finditer(said)}
    return {
        name: reasons.get(name, "it does not say why")
        for (name,) in connection.execute(_EMPTY)
        if name in relations and not relations[name].startswith("materialised view without data")
    }


def notes(views: dict[str, str]) -> tuple[str, ...]:
    """A sentence for each. Pure."""
    return tuple(
        f"the materialised view {name} is without data, for its query fails there ({why}): REFRESH MATERIALIZED VIEW "
        f"{name} once it does not"
        for name, why in views.items()
    )
