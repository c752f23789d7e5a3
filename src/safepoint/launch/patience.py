"""A server, or a router, that is restarted is away for seconds: then a step is tried again, and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, TypeVar

import psycopg

from safepoint.config import format_duration
from safepoint.errors import CommandFailed, DatabaseError, RouterAway, SafepointError, ServerAway, StillAway
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence
from safepoint.postgres.connections import connect, was_lost

T = TypeVar("T")

TRIES: Final = 3
AWAY: Final = 60.0
"""Seconds that a server, or the router, may be away."""

WAITS: Final = "waits"
"""The kind of the ledger's entry by which a step says what it waits for."""


def answers(ground: Ground) -> bool:
    """Whether the live database's server, and the twin's, can be connected to now, and no standby is in its place."""
    return _seen(ground) == "there"


def is_away(ground: Ground) -> bool:
    """Whether one of them does not answer now, or has a standby in its place, which only reads: in a failover. One that
    answers, and does not let us in, is not away.
    """
    return _seen(ground) in ("away", "standby")


def _seen(ground: Ground) -> Literal["there", "standby", "away", "refuses"]:
    try:
        with ground.standing.both() as both:
            asked = [one.execute("SELECT pg_is_in_recovery()").fetchone() for one in both]
    except (ServerAway, psycopg.Error):
        return "away"
    except SafepointError:
        return "refuses"
    return "there" if all(one == (False,) for one in asked) else "standby"


def live_answers(ground: Ground) -> bool:
    """Whether the live database's server can be connected to now."""
    with suppress(SafepointError), connect(ground.maintenance):
        return True
    return False


def router_answers(ground: Ground) -> bool:
    """Whether the router says anything now, whatever it is."""
    try:
        ground.router.state()
    except RouterAway:
        return False
    except SafepointError:
        return True
    return True


def comes_back(ground: Ground, answers: Callable[[Ground], bool] = answers) -> bool:
    """Wait until they answer. An order ends the waiting (`Interrupted`)."""
    return ground.until(AWAY, 0.5, lambda: Evidence("it answers") if answers(ground) else None) is not None


def patiently(ground: Ground, work: Callable[[], T]) -> T:
    """A step of the way back: there is nothing better to do than to wait. A launch takes the way back instead.

    Raises:
        StillAway: the server did not come back.
        ServerAway: it went away again and again.
        RouterAway: the router did either.
        SafepointError: whatever else `work` raised.
    """
    attempt = 1
    while True:
        try:
            return work()
        except RouterAway as error:
            if ground.step.phase != "rollback" or attempt == TRIES:
                raise
            _tell(ground, "the router", error)
            if not comes_back(ground, router_answers):
                raise
        except (DatabaseError, CommandFailed, psycopg.Error) as error:
            lost = was_lost(error) if isinstance(error, psycopg.Error) else isinstance(error, ServerAway)
            if ground.step.phase != "rollback" or not (lost or is_away(ground)):
                raise
            if attempt == TRIES:
                raise _away(ground, ServerAway, error) from error
            _tell(ground, "PostgreSQL", error)
            if not comes_back(ground):
                raise _away(ground, StillAway, error) from error
        attempt += 1


def _away(ground: Ground, kind: type[ServerAway], error: SafepointError | psycopg.Error) -> ServerAway:
    """What the step ends with: as the error says it, but of the kind that the conductor goes by."""
    said = " ".join(str(error).split()) if isinstance(error, psycopg.Error) else error.message
    if _seen(ground) == "standby":
        return kind(
            "A standby answers where the server is looked for, and only reads.",
            found=said,
            remedy="Promote it, or lead the address of [database] to the server that writes; then `safepoint retry`.",
        )
    if isinstance(error, CommandFailed):  # the application's: it cannot do without its database either
        return kind(
            f"PostgreSQL does not answer; without it: {said}",
            subject=error.subject,
            found=error.found,
            remedy="See that it runs, and that this machine and the application's reach it; then `safepoint retry`.",
        )
    if isinstance(error, SafepointError):
        return kind(said, subject=error.subject, found=error.found, remedy=error.remedy)
    return kind(
        "PostgreSQL went away.",
        found=said,
        remedy="See that it runs, and that this machine reaches it; then `safepoint retry`.",
    )


def _tell(ground: Ground, what: str, error: Exception) -> None:
    said = " ".join(str(getattr(error, "message", error)).split()).rstrip(".")
    tell_waiting(ground, f"{what} does not answer ({said}); it is waited for", AWAY)


def tell_waiting(ground: Ground, what: str, seconds: float) -> None:
    """Whoever looks meanwhile learns what is waited for, and not only once a person is asked."""
    times = sum(entry.kind == WAITS for entry in ground.ledger.entries)
    waited = f"{what}, {format_duration(seconds)} at most"
    ground.ledger.append(WAITS, f"{WAITS}:{times + 1}", {"for": waited, "seconds": seconds}, step=ground.step.id)
