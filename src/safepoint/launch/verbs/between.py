"""Verbs for what the old release writes between a rollback's swap and the opening of the site.

Nobody is let in then, but its workers run. A rollback that ends keeps what they write, for the twin is the live
database. One that is turned round leaves it behind: so it is captured, and listed before the swap back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, Interrupted, Refused, SafepointError
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Entry
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.wayback import listed, unseen_of
from safepoint.launch.wayback.moved import live_now, twin_is_live
from safepoint.launch.wayback.proof_standing import proven_mapping
from safepoint.postgres.connections import connect
from safepoint.wayback.capture import capture
from safepoint.wayback.capture.promises import shown
from safepoint.wayback.replay.merging import raise_new_sequences
from safepoint.wayback.sessions import asking


class WatchBetween(Verb):
    """From here on every change to the twin, which is live now, is captured; until the site is open."""

    name = "watch-between"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is created in the twin."""
        return ("CREATE PUBLICATION ...; pg_create_logical_replication_slot(..., 'pgoutput')  (in the twin)",)

    def apply(self, ground: Ground) -> Evidence:
        """No failure stops the way back: the site has to come back, and only a return would have to know."""
        try:
            facts = capture.arm(live_now(ground), ground.launch_id, ground.plan.wayback.capture, purpose="between")
        except (DatabaseError, Refused) as error:
            return Evidence(
                f"not captured: {error.message} A return from here on cannot list what is written meanwhile",
                {"error": error.as_json()},
            )
        how = {"logical": "by decoding the log", "triggers": "by triggers"}.get(facts.mode, "by transaction ids only")
        return Evidence(f"captured {how}", {"capture": facts.as_json()})


class ListBetween(Verb):
    """Before the migrated database takes its place again: what stays behind in the twin, with its users."""

    name = "list-between"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The listing."""
        return ("list each transaction with its user -> left-behind.csv",)

    def apply(self, ground: Ground) -> Evidence:
        """The fence stands and the twin bears the live name still. What cannot be known is said as an alarm."""
        if not twin_is_live(ground) or not _let_in(ground):
            return Evidence("the old release was not let in: nothing was written to the twin", _none())
        _give_no_number_again(ground)
        facts = _armed(ground)
        if facts is None:
            said = "ALARM: it was not captured what the old release wrote to the twin; look there by hand"
            return Evidence(said, {**_none(), "transactions": None})
        spool = _spool(ground, facts)
        try:
            unseen = () if facts.mode == "none" else unseen_of(_drained(ground, facts, spool).as_json())
            out = _out(ground)
            found = listed(ground, live_now(ground), facts, spool, out, unseen=unseen)
        except Interrupted:
            raise
        except SafepointError as error:
            said = f"ALARM: {error.message} What the old release wrote to the twin must be found there by hand"
            return Evidence(said, {**_none(), "transactions": None, "error": error.as_json()})
        if not found.rows:
            out.unlink(missing_ok=True)
            blind = f", as far as it was captured. {shown(found.notes)}" if not found.complete else ""
            said = f"nothing was written to the twin meanwhile{blind}"
            return Evidence(said, {**_none(), "notes": list(found.notes)})
        return Evidence(
            f"{found.transactions} transactions of {ground.release('old').version} stay behind in the twin, "
            f"{found.rows} rows, {found.user_count} users: {out.name}",
            found.as_json(),
        )


class EndBetween(Verb):
    """Once the site is open on the old release, or what was written is listed, nothing captures it any more."""

    name = "end-between"

    def apply(self, ground: Ground) -> Evidence:
        """Nothing of Safepoint stays in the application's database."""
        if not twin_is_live(ground):  # the migrated database has a capture of its own, which stays
            return Evidence("there is none")
        facts = _armed(ground)
        if facts is None:  # a server that stopped while it was made may have half of it still
            capture.disarm_unrecorded(live_now(ground), ground.launch_id, "between")
            return Evidence("there is none")
        capture.disarm(live_now(ground), facts)
        return Evidence("it is removed")


def _give_no_number_again(ground: Ground) -> None:
    """What is written from now on must not get the keys of what stays behind: another rollback would meet it there."""
    mapping = proven_mapping(ground)
    if mapping is None:
        return  # nothing would be carried
    with (
        asking("Raising the sequences", ground.kept),
        connect(ground.target.on(ground.kept), lock_timeout=5) as migrated,
        connect(live_now(ground)) as twin,
    ):
        raise_new_sequences(migrated, twin, mapping)


def _this_way_back(ground: Ground) -> Sequence[Entry]:
    """The ledger since the newest rollback began; one that was turned round may have come before it."""
    entries = ground.ledger.entries
    begun = max((entry.seq for entry in entries if entry.kind == "wayback"), default=0)
    return [entry for entry in entries if entry.seq > begun]


def _let_in(ground: Ground) -> bool:
    return any(e.kind == "step.begun" and e.step == "back-unfence" for e in _this_way_back(ground))


def _armed(ground: Ground) -> capture.CaptureFacts | None:
    done = [e for e in _this_way_back(ground) if e.kind == "step.done" and e.step == "back-between"]
    known = done[-1].data["evidence"].get("capture") if done else None
    return None if known is None else capture.CaptureFacts.from_json(dict(known))


def _drained(ground: Ground, facts: capture.CaptureFacts, spool: Path) -> capture.Drained:
    found = capture.drain(live_now(ground), facts, spool, cancelled=ground.cancelled)
    if not found.complete:
        raise Interrupted("What was written meanwhile was not read to its end.", subject=ground.step.id)
    return found


def _spool(ground: Ground, facts: capture.CaptureFacts) -> Path:
    # A rollback that is turned round may be taken again: each has a beginning of its own.
    return ground.folder / f"between-{facts.start_lsn.replace('/', '-')}.spool"


def _out(ground: Ground) -> Path:
    turned = sum(entry.kind == "wayforth" for entry in ground.ledger.entries)
    return ground.folder / ("left-behind.csv" if turned < 2 else f"left-behind-{turned}.csv")


def _none() -> dict[str, Any]:
    return {"transactions": 0, "rows": 0}
