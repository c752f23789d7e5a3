"""Which database bears the live name now, on which server: the servers say so by oid, not the ledger."""

from __future__ import annotations

from safepoint.errors import NeedsPerson, ServerAway
from safepoint.launch.ground import Ground
from safepoint.postgres.connections import OWN_NAMES, connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import fence
from safepoint.wayback.sessions import database_name
from safepoint.wayback.twin.twin import TwinFacts


def swapped(ground: Ground, facts: TwinFacts) -> bool:
    """Whether the migrated database bears the name that a rollback gives it."""
    with connect(ground.maintenance, options=OWN_NAMES) as connection:
        found = database_name(connection, facts.live_oid)
    return found == ground.kept


def refuse_without_twin(ground: Ground) -> None:
    """Before a rollback closes the site: without the twin it could neither go on nor open it again. A server that does
    not answer refuses nobody, it may come back.

    Raises:
        NeedsPerson: a server answers, and has neither the twin nor what was swapped in of it.
    """
    recorded = ground.fact("twin")
    if recorded is None:
        return
    facts = TwinFacts.from_json(dict(recorded))
    try:
        with ground.standing.at_twin() as connection:
            found = database_name(connection, facts.twin_oid)
    except ServerAway:
        return
    if found is None:
        raise NeedsPerson(
            f"The twin {facts.twin} is gone, and without it there is no way back: was the launch retired from another "
            "state folder, or the twin dropped by hand?",
            subject=facts.twin,
            expected="the database that a rollback swaps in",
            found="no database of its oid",
            remedy="Nothing is touched, the site is open: `safepoint return` ends this rollback, and the new release "
            "stays. A snapshot can be restored beside it: `safepoint backups`, `safepoint restore ID --into NAME`.",
        )


def twin_is_live(ground: Ground) -> bool:
    """Whether the twin bears the live name. On two servers a rollback can end when the migrated database has left that
    name, and the twin has not taken it: then nobody bears it."""
    known = ground.fact("twin")
    if known is None:
        return False
    facts = TwinFacts.from_json(dict(known))
    if not swapped(ground, facts):
        return False  # the twin's server may be away
    with ground.standing.at_twin() as connection:
        return database_name(connection, facts.twin_oid) == facts.live


def live_now(ground: Ground) -> Target:
    """The database of the live name: where the launch found it, or on the twin's server once a rollback has swapped."""
    pair = ground.standing
    return pair.swapped_in if pair.apart and twin_is_live(ground) else ground.target


def left_here(ground: Ground) -> Target:
    """A database of the launch's own server: the live one, or the one that is kept when its name has gone elsewhere."""
    facts = ground.fact("twin")
    gone = facts is not None and ground.standing.apart and swapped(ground, TwinFacts.from_json(dict(facts)))
    return ground.target.on(ground.kept) if gone else ground.target


def fence_there(ground: Ground, roles: tuple[str, ...]) -> None:
    """Before a return: keep the old release's processes from writing to the twin, which is live, on whichever server.

    The launch's own fence is the migrated database's, under whatever name: it ends no session of the twin, and on
    another server it locks nobody out. `reopen_there` undoes this one; both may be run again.
    """
    if not twin_is_live(ground):
        return
    pair = ground.standing
    name = _fence_name(ground)
    if ground.fact(name) is None:
        found = fence.survey_fence(pair.swapped_in, roles, maintenance=pair.twin_maintenance)
        ground.record(name, found.as_json())
    prior = fence.FencePrior.from_json(dict(ground.need(name)))
    fence.close(pair.swapped_in, prior, maintenance=pair.twin_maintenance)


def reopen_there(ground: Ground) -> None:
    """Undo `fence_there`, where it was done."""
    recorded = ground.fact(_fence_name(ground))
    if recorded is not None:
        pair = ground.standing
        prior = fence.FencePrior.from_json(dict(recorded))
        fence.reopen(pair.swapped_in, prior, maintenance=pair.twin_maintenance)


def _fence_name(ground: Ground) -> str:
    # A rollback that is turned round may be taken again: each return finds things as they are then.
    return f"fence-there:{sum(entry.kind == 'wayforth' for entry in ground.ledger.entries)}"
