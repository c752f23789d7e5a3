"""Whether the database that a launch left live is the one that is live now: a restore may have replaced it since.

The ledger ends with the launch. A snapshot restored over the live database, by whatever command and from whichever
machine, stands in none; the server tells the two apart by their oids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, PlanFileError
from safepoint.launch.ledger import Entry
from safepoint.postgres.connections import OWN_NAMES, connect
from safepoint.postgres.target import target

_TELL: Final = ("twin", "back-swap", "forth-swap")
"""The steps whose evidence says which database had the live name then."""

_PATIENCE: Final = 3


def left_live(entries: Sequence[Entry]) -> int | None:
    """The oid of the database that the launch left live on its own server; None where nobody knows. Pure."""
    returned = False
    for entry in reversed(entries):
        if entry.kind != "step.done" or entry.step not in _TELL or (returned and entry.step == "back-swap"):
            continue
        evidence = entry.data["evidence"]
        if "live_oid" not in evidence:  # it found the migrated database in its place: after a kill, say
            returned = True
            continue
        gone = entry.step == "back-swap" and evidence.get("server") is not None
        return None if gone else int(evidence["live_oid"])
    return None


def replaced(plan_file: PlanFile, entries: Sequence[Entry]) -> str | None:
    """What to say where another database is live than the launch left; None where it is, or the server does not say."""
    oid, live = left_live(entries), plan_file.database.name
    if oid is None:
        return None
    maintenance = target(plan_file.database).on(plan_file.database.maintenance)
    query = "SELECT oid::int8, datname FROM pg_database WHERE datname = %s OR oid = %s"
    try:
        with connect(maintenance, patience=_PATIENCE, options=OWN_NAMES) as connection:
            names = {int(row[0]): str(row[1]) for row in connection.execute(query, (live, oid)).fetchall()}
    except (DatabaseError, PlanFileError, psycopg.Error):
        return None
    if names.get(oid) == live:
        return None
    kept = f"is kept as {names[oid]}" if oid in names else "is gone"
    if live not in names.values():
        return f"There is no database {live} now; the one that this launch left {kept}."
    return (
        f"{live} is another database now than this launch left, which {kept}: a snapshot was restored in its place, or "
        "it was made anew. Which release fits it, and what is in it, this record does not know."
    )
