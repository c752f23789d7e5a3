"""What of the transactions since the launch stands in the twin: by this rollback, or brought into it before.

A follower brings them, or they are carried ahead, or by a rollback that was turned round. They stay in the twin,
whatever the rollback does then: told as lost they would be entered again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safepoint.launch.ground import Ground
from safepoint.launch.wayback.moved import live_now
from safepoint.postgres.connections import connect
from safepoint.wayback.door import entering
from safepoint.wayback.replay import records
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.sessions import asking


def carrying_found(ground: Ground) -> Mapping[str, Any]:
    """What this rollback's carrying found, also where a person went on without it; an earlier one was turned round."""
    entries = ground.ledger.entries
    begun = max((entry.seq for entry in entries if entry.kind == "wayback"), default=0)
    found = (e.data for e in reversed(entries) if e.seq > begun and e.step == "back-carry" and "evidence" in e.data)
    return dict(next(found, {}).get("evidence", {}))


def carried_now(ground: Ground) -> Mapping[str, Any] | None:
    """What is carried, by this rollback and before it; None where nothing is."""
    found = carrying_found(ground)
    return found if "files" in found else None


def carried_files(ground: Ground) -> Mapping[str, Path] | None:
    """What the carrying put away or aside, as files beside the ledger; None where nothing was carried.

    They are read out of the twin's records once the site is open again: with much in them they take a while.
    """
    if carried_now(ground) is None:
        return None
    with connect(live_now(ground)) as connection:
        files = records.write_files(connection, ground.folder / "carried")
    return {name: Path(path) for name, path in files.items()}


def carried_before(ground: Ground) -> dict[str, Any] | None:
    """What stands in the twin before this rollback carries anything, as facts for its step; None where nothing does.

    `carried_to` is the commit that it goes up to.
    """
    pair = ground.standing
    with asking("Looking at the twin", pair.twin.dbname), entering(pair.twin, pair.twin_maintenance) as twin:
        found = records.before(twin, ground.launch_id)
    if found is None or not found.outcome["transactions"]:
        return None
    outcome = Outcome.from_json(found.outcome)
    drained = (ground.evidence("back-drain") or {}).get("drained") or {}
    every = max(outcome.transactions, int(drained.get("total_transactions", 0)))
    counts = {"carried": outcome.carried, "listed": every - outcome.carried, "transactions": every}
    return {**outcome.as_json(), **counts, "carried_to": found.commit_lsn}
