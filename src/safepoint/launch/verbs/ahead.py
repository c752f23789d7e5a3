"""The first step of a rollback: most of the carrying is done before the site is closed for it.

What people wrote since the launch is in the capture, and grows as long as the site is open. Applied to the twin while
it is open, it leaves only the last second of it for the time in which everybody waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safepoint.config import PlanFile
from safepoint.errors import (
    CaptureElsewhere,
    DatabaseError,
    Interrupted,
    ResourcesExhausted,
    SafepointError,
    ServerAway,
    StorageError,
)
from safepoint.launch.ground import Ground
from safepoint.launch.patience import is_away
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.wayback import following
from safepoint.launch.wayback.carried import carried_before
from safepoint.launch.wayback.moved import refuse_without_twin
from safepoint.wayback.fence.obstacles import in_the_way
from safepoint.wayback.replay.manner import NotWhole

_ROUNDS: Final = 5
_ENOUGH_SECONDS: Final = 1.0


class CarryAhead(Verb):
    """Apply to the twin what was captured so far. Nothing live is touched, and the site stays as it is."""

    name = "carry-ahead"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The replay of what is there."""
        return ("replay the capture into the twin, in batches that it can hold whole",)

    def apply(self, ground: Ground) -> Evidence:
        """What is not carried here is carried once the site is closed, or listed.

        Where another state folder has what was captured, a person is asked while the site is still open: there it can
        all be carried. And so where the fence would be refused: with the site closed nobody could go on for it.

        Raises:
            NeedsPerson: there is no twin any more.
            ServerAway: nor could anybody without PostgreSQL, which may well answer the release and not us.
            ResourcesExhausted, StorageError: the server's disk, or our own, takes nothing more: with the site closed it
                would take nothing either.
            Interrupted: an order came.
        """
        refuse_without_twin(ground)
        evidence = self._carried(ground)
        try:
            held = None if ground.stops_first or evidence.verdict != "pass" else _in_the_way(ground)
        except ServerAway as error:
            raise _while_open(error) from error
        return evidence if held is None else _held(evidence, held)

    def _carried(self, ground: Ground) -> Evidence:
        if ground.discards:
            ground.background.end(following.WORK)
            return _discarding(ground)
        if ground.stops_first:
            return _nothing("--stop-first was ordered, the site closes now")
        ground.background.end(following.WORK)
        standby = following.standby_of(ground.plan, ground.launch_id, ground.ledger.entries, carrying=True)
        if standby is None or standby.mapping is None:
            return _nothing("nothing will be carried, so the site closes now")
        try:
            applied, rounds = following.catch_up(
                standby, ground.cancelled, rounds=_ROUNDS, enough=_ENOUGH_SECONDS, report=ground.report
            )
        except Interrupted:
            raise
        except CaptureElsewhere as error:
            return _elsewhere(error)
        except (ResourcesExhausted, ServerAway, StorageError) as error:
            raise _while_open(error) from error
        except NotWhole as error:
            return _nothing(f"{error.message} What is left is carried as one once the site is closed")
        except SafepointError as error:
            return _nothing(f"{error.message} It is tried again once the site is closed")
        return Evidence(
            f"{applied:,} transactions carried into the twin while the site was open",
            {"applied": applied, "rounds": rounds},
        )


def _in_the_way(ground: Ground) -> str | None:
    """What cannot be asked holds nothing up: each step looks by itself.

    Raises:
        ServerAway: nothing at all can be asked, or nothing written: a standby answers.
    """
    if is_away(ground):
        raise ServerAway(
            "PostgreSQL does not answer, or a standby does in its place, which only reads.",
            subject=ground.target.address,
            remedy="See that the server which writes is there.",
        )
    try:
        database = ground.plan.database
        return in_the_way(ground.target, roles=database.application_roles, maintenance=database.maintenance)
    except ServerAway:
        raise
    except DatabaseError:
        return None


def _held(evidence: Evidence, held: str) -> Evidence:
    return Evidence(
        f"{evidence.summary}. But {held}; what follows would be refused, or wait, with the site closed. Nothing is "
        "touched yet, the site is open: see to it, then `safepoint retry`; `safepoint go` closes the site all the "
        "same; `safepoint return` leaves it open",
        {**evidence.facts, "in_the_way": held},
        "inconclusive",
    )


def _discarding(ground: Ground) -> Evidence:
    """What is in the twin cannot be taken out of it again: a person hears of it while the site is open."""
    before = carried_before(ground)
    if before is None:
        return _nothing("--discard was ordered")
    return Evidence(
        f"--discard was ordered, and {before['carried']} transactions are in the twin already: they were carried into "
        "it since the launch, and cannot be taken out. Nothing is touched yet, the site is open: `safepoint return` "
        "leaves it so; `safepoint go` takes the way back with these, and lists what was written later",
        {"applied": 0, "carried": before["carried"]},
        "inconclusive",
    )


def _while_open(error: ResourcesExhausted | ServerAway | StorageError) -> SafepointError:
    return type(error)(
        error.message,
        subject=error.subject,
        found=error.found,
        remedy=f"{error.remedy} Nothing is touched yet, the site is open: `safepoint retry` tries again, "
        "`safepoint return` leaves it so; `safepoint rollback --stop-first` closes it all the same.",
    )


def _elsewhere(error: CaptureElsewhere) -> Evidence:
    return Evidence(
        f"{error.message} This one has {error.found}, and the server has let go of {error.expected}. {error.remedy} "
        "Nothing is touched yet, the site is open: `safepoint return` leaves it so; `safepoint retry` tries again; "
        "`safepoint go` takes the way back without what is missing, and lists it by the rows that stand",
        {"applied": 0, "error": error.as_json()},
        "inconclusive",
    )


def _nothing(reason: str) -> Evidence:
    return Evidence(f"left out: {reason}", {"applied": 0, "reason": reason})
