"""The verbs that list what was written and say who is affected, once the site is open again.

They take their time from nobody's downtime. The list goes once over the spool, and gathers by user what is told then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, Interrupted, Refused
from safepoint.launch.error_logs import watched
from safepoint.launch.ground import Ground
from safepoint.launch.kept_logs import FOLDER, keep_logs
from safepoint.launch.report.affected import affected_page
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.wayback import listed, unseen_of
from safepoint.launch.wayback.carried import carried_files, carried_now, carrying_found
from safepoint.launch.wayback.new_defaults import django_defaults
from safepoint.launch.wayback.proof_standing import PROOF, proven_mapping
from safepoint.postgres.pgoutput import parse_lsn
from safepoint.wayback.affected import written
from safepoint.wayback.affected.affected import (
    Affected,
    Gathering,
    Telling,
    UserTable,
    catalogue_of,
    usual_values,
    write_letters,
)
from safepoint.wayback.affected.fates import Fates
from safepoint.wayback.affected.letters import Words
from safepoint.wayback.capture.capture import CaptureFacts, drain
from safepoint.wayback.capture.promises import shown
from safepoint.wayback.capture.settling import settling

LIST = "affected.csv"
PAGE = "affected.html"
LETTERS = "affected-users.csv"
_SHOWN = 300


class ListWritten(Verb):
    """Every transaction since the safe point, row by row, with its user and what became of it."""

    name = "list-written"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The listing."""
        return (f"list each transaction with its user and its fate -> {LIST}",)

    def apply(self, ground: Ground) -> Evidence:
        """Reads the spool and the kept database, which nobody changes any more."""
        late, unread = _read_to_its_end(ground)
        with Gathering(ground.folder) as gathering:
            listing = _gather(ground, gathering, unread)
            gathering.keep(listing.notes)
        carried = int((carried_now(ground) or {}).get("carried", 0))
        blind = f". What is not in it: {shown(listing.notes)}" if not listing.complete else ""
        return Evidence(
            f"{listing.transactions} transactions, {listing.rows} rows, {listing.user_count} users: {LIST}"
            f"{late}{blind}",
            {**listing.as_json(), "carried": carried, "listed": max(0, listing.transactions - carried)},
        )


class KeepLogs(Verb):
    """What the error logs got since the site was closed, copied before rotation takes it."""

    name = "keep-logs"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is copied."""
        return tuple(f"copy what {log.path} ({log.host}) got since -> {FOLDER}/" for log in watched(plan))

    def apply(self, ground: Ground) -> Evidence:
        """A log that cannot be read is told, and nobody waits for it."""
        told = keep_logs(ground.plan, ground.folder, ground.ledger.entries)
        if not told:
            return Evidence("the plan names no error log", {"logs": told})
        return Evidence(f"{'; '.join(told)}: {ground.folder / FOLDER}", {"logs": told})


class TellAffected(Verb):
    """A page and a text for each user that has to be told."""

    name = "tell-affected"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is written."""
        return (f"by user what became of their rows -> {LETTERS}, {PAGE}",)

    def apply(self, ground: Ground) -> Evidence:
        """Reads the kept database and what was gathered; writes files of mode 0600 in the launch's folder."""
        plan = ground.plan
        releases, launch = plan.releases, plan.launch
        words = Words(launch.application, releases.old.version, releases.new.version, launch.timezone)
        users = UserTable.of(ground.fact("project") or {})
        kept = Gathering.kept(ground.folder)
        with kept or Gathering(ground.folder) as gathering:
            notes = gathering.notes if kept is not None else _gather(ground, gathering).notes
            letters = ground.folder / LETTERS
            first = write_letters(gathering, ground.target.on(ground.kept), users, words, letters, shown=_SHOWN)
            totals = gathering.totals()
            found = Affected(totals, str(ground.folder / LIST), str(letters), notes, first)
            page = ground.folder / PAGE
            with settling(page) as file:
                file.write(affected_page(found, words, ground.launch_id))
        unknown = f"; {totals.unknown} rows lead to no user" if totals.unknown else ""
        return Evidence(
            f"{totals.users} user{'' if totals.users == 1 else 's'} affected, "
            f"{totals.whole} more kept everything{unknown}: {page}",
            {**found.as_json(), "page": str(page)},
        )


def _read_to_its_end(ground: Ground) -> tuple[str, tuple[str, ...]]:
    """What was committed between the last drain and the swap: a read-only default holds nobody who sets it back. Gives
    how much, as the end of a line, and why it is not known."""
    facts = CaptureFacts.from_json(dict(ground.need("capture")))
    if facts.mode == "none" or ground.fact("capture-lost") is not None or _stopped_at(ground) == 0:
        return "", ()
    try:
        found = drain(ground.target.on(ground.kept), facts, ground.folder / "spool", cancelled=ground.cancelled)
    except (DatabaseError, Refused) as error:
        return "", (f"What somebody may have written after the stop is not known: {error.message}",)
    if not found.complete:
        raise Interrupted("The capture was not read to its end.", subject=ground.step.id)
    if not found.transactions:
        return "", ()
    return f"; {found.transactions} of them were committed after writes had been stopped, and are not carried", ()


def _stopped_at(ground: Ground) -> int:
    """Up to where this rollback's drain has read, which is what was carried; 0 where it read nothing."""
    drained = (ground.evidence("back-drain") or {}).get("drained") or {}
    return parse_lsn(drained["up_to"]) if drained.get("up_to") else 0


def _gather(ground: Ground, gathering: Gathering, unread: tuple[str, ...] = ()) -> written.Written:
    """Write the list, each line with its fate, and gather by user while it goes by."""
    facts = CaptureFacts.from_json(dict(ground.need("capture")))
    proof, carried = ground.fact(PROOF), carried_files(ground)
    kept = ground.target.on(ground.kept)
    mapping = proven_mapping(ground)
    found = carrying_found(ground)
    said, reason = found.get("reason"), None
    if carried is None or said:
        reason = f"{'nothing' if carried is None else 'nothing more'} was carried back" + (f": {said}" if said else "")
    partitions, carried_to = found.get("partitions"), int(found.get("carried_to", 0))
    until = _stopped_at(ground)
    fates = Fates(gathering.store, mapping, catalogue_of(kept), reason, partitions, carried_to, until)
    if carried is not None:
        fates.load(carried["put_aside"], carried["dangling"])
    told = Telling(fates, gathering, usual_values(kept, mapping, django_defaults(proof)))
    lost = ground.fact("capture-lost") is not None
    unseen = (*_unseen(ground), *unread)
    return listed(ground, kept, facts, ground.folder / "spool", ground.folder / LIST, told, unseen, lost=lost)


def _unseen(ground: Ground) -> tuple[str, ...]:
    """What was committed until the rollback and the capture does not have, beside that which it did not promise."""
    lost = ground.fact("capture-lost")
    found = (
        ()
        if lost is None
        else (f"{lost['message']} Of what was written later rows that were deleted, or changed again, are not listed.",)
    )
    return (*found, *unseen_of((ground.evidence("back-drain") or {}).get("drained") or {}))
