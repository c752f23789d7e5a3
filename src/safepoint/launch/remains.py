"""What of a launch stands on the server, and whether this state folder's ledger says how it came there.

Of two machines with a state folder each, one may have begun a launch and the other have carried it out. Gone on with by
the first one's ledger, its twin would be replaced by a copy of the migrated database, and an abort would remove it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from safepoint.errors import Refused
from safepoint.launch.ledger import Entry
from safepoint.postgres.connections import Connection
from safepoint.wayback.names import (
    capture_name,
    feed_name,
    kept_name,
    migration_role,
    quiet_name,
    read_mark,
    twin_name,
)

DATABASES: Final = """
SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = ANY(%s) ORDER BY 1
"""
SLOTS: Final = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = ANY(%s) ORDER BY 1"
ROLES: Final = "SELECT rolname FROM pg_roles WHERE rolname = %s"
FENCES: Final = """
SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE d.datname = %s AND s.setrole = 0 AND s.setconfig @> ARRAY['default_transaction_read_only=on']
"""

# The steps that may have made each; one that was begun is enough, for a kill may have come right after.
_TWIN: Final = {"seed-twin", "twin"}
_FEED: Final = {"final-snapshot", "seed-twin"}
_SWAP: Final = "back-swap"
_FENCE: Final = {"fence", "back-fence", "forth-fence"}
_CAPTURE: Final = {"arm"}
_LOGIN: Final = {"migrate-plan", "migrate", "migrate-check"}
_OPENS: Final = {"unfence", "back-unfence", "forth-unfence", "undo-fence"}
_SWAPS: Final = {"back-swap", "forth-swap"}


def refuse_unexplained(connection: Connection, database: str, launch_id: str, entries: Sequence[Entry]) -> None:
    """Refuse a launch of which there are traces that its ledger knows nothing of.

    Raises:
        Refused: there are some.
    """
    begun = {entry.step for entry in entries if entry.kind == "step.begun" and entry.step is not None}
    safe_points = {str(e.data["lsn"]) for e in entries if e.kind == "fact" and e.key.endswith(":safe-point")}
    found = list(_unexplained(connection, database, launch_id, begun, safe_points))
    if not found:
        _refuse_opened(connection, database, launch_id, entries)
        return
    if entries:
        raise Refused(
            f"The launch {launch_id} was gone on with from another state folder: its traces are here.",
            subject=launch_id,
            expected="nothing on the server that this state folder's ledger does not know of",
            found="; ".join(found),
            remedy="Nothing was changed. Give the command where it was gone on with (launch.state): from here, what "
            "stands by for its way back would be lost.",
        )
    raise Refused(
        f"The launch {launch_id} was begun before, from another state folder: its traces are here.",
        subject=launch_id,
        expected="nothing of this launch on the server, or the ledger that it was begun with",
        found="; ".join(found),
        remedy="Go on with it, or take it back (`safepoint abort`; once it is launched, `safepoint rollback`), where "
        "it was begun (launch.state).",
    )


def refuse_fenced(connection: Connection, database: str, launch_id: str, entries: Sequence[Entry]) -> None:
    """Of a launch that is over by its ledger: no fence stands then, but that of another state folder's rollback.

    Raises:
        Refused: one stands. (A database that was read-only by default before has always one.)
    """
    before = next((e.data for e in entries if e.kind == "fact" and e.key.endswith(":fence")), {})
    if before.get("read_only") == "on" or connection.execute(FENCES, [database]).fetchone() is None:
        return
    raise Refused(
        f"The database {database} is fenced, and by this ledger {launch_id} is over: a rollback was begun from another "
        "state folder, or its default was set to read-only by hand.",
        subject=database,
        expected="no fence (default_transaction_read_only)",
        found="the database is read-only by default",
        remedy="Nothing was changed. The twin is needed where that goes on (launch.state): see its `status`. "
        f"Where nobody rolls back: ALTER DATABASE {database} RESET default_transaction_read_only.",
    )


def _refuse_opened(connection: Connection, database: str, launch_id: str, entries: Sequence[Entry]) -> None:
    """By this ledger nobody may write; where they may, it does not know since when, and what they wrote would be lost.

    Raises:
        Refused: the fence is gone, and no step of this ledger took it down.
    """
    if not _stands(entries) or connection.execute(FENCES, [database]).fetchone() is not None:
        return
    raise Refused(
        f"The launch {launch_id} was gone on with from another state folder, or its fence was taken down by hand: the "
        "application may write, and this ledger does not know of it.",
        subject=database,
        expected="the fence (read-only by default), which by this ledger stands",
        found="no fence: what was written since would be neither carried nor listed",
        remedy="Nothing was changed. Give the command where it was gone on with (launch.state), or bring that launch's "
        f"folder here. Where somebody took it down by hand: ALTER DATABASE {database} SET "
        "default_transaction_read_only = on; a rollback then loses what was written meanwhile.",
    )


def _stands(entries: Sequence[Entry]) -> bool:
    """Whether the fence stands, as far as a ledger knows. Once databases were swapped, the live name says nothing."""
    stands = False
    for entry in entries:
        if entry.kind == "step.done" and entry.step in _FENCE:
            stands = True
        elif entry.kind == "step.begun" and entry.step in (_OPENS | _SWAPS):
            stands = False
    return stands


def _unexplained(
    connection: Connection, live: str, launch_id: str, begun: Collection[str], safe_points: Collection[str]
) -> Iterator[str]:
    kept = kept_name(live, launch_id)
    for name, comment in connection.execute(DATABASES, [[twin_name(live, launch_id), kept]]).fetchall():
        mark = read_mark(comment)
        finished = mark is not None and mark.role != "twin, kept level"
        ours = mark.at in safe_points if mark is not None and finished else bool(_TWIN.intersection(begun))
        # A copy of this folder may have been gone on with: its rollback is not in this ledger.
        if not ours or (name == kept and _SWAP not in begun):
            yield f"the database {name}"
    made = {capture_name(launch_id): _CAPTURE, feed_name(launch_id): _FEED, quiet_name(launch_id): _FENCE}
    for (name,) in connection.execute(SLOTS, [list(made)]).fetchall():
        if not made[name].intersection(begun):
            yield f"the replication slot {name}"
    for (name,) in connection.execute(ROLES, [migration_role(launch_id)]).fetchall():
        if not _LOGIN.intersection(begun):
            yield f"the role {name}"
    if connection.execute(FENCES, [live]).fetchone() is not None and not _FENCE.intersection(begun):
        yield "a fence: the database is read-only by default"
