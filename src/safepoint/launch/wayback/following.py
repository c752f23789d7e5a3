"""After the launch: the capture is taken off the server, and with `follow = "live"` applied to the twin all the time.

The conductor does it beside the steps as long as it lives, `safepoint follow` from then until the launch is retired.
Only batches that the twin can hold whole are applied: a row that has to be put aside now might be mended by a later
transaction, and then carried. At the first batch that is not whole the twin stays where it is; what comes from there
on lies in the spool, and a rollback carries it as one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from safepoint.config import PlanFile
from safepoint.django.operations import Operations
from safepoint.errors import CaptureLost, Interrupted, Refused, SafepointError, StorageError
from safepoint.launch.ground import Ground, newest_fact
from safepoint.launch.ledger import Entry
from safepoint.launch.wayback.pairs import standing_pair
from safepoint.launch.wayback.proof_standing import PROOF
from safepoint.postgres.connections import Connection, cancellable, connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, silent
from safepoint.wayback.capture import capture
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack, changed_rules, untouched_as_now
from safepoint.wayback.replay.manner import Manner, NotWhole, Policy
from safepoint.wayback.replay.replay import READ_ONLY, TURN, carry
from safepoint.wayback.sessions import asking, end_holders

WORK: Final = "follow the launch"
EVERY: Final = 1.0
"""Seconds between two rounds where the twin follows."""
SPOOLED_EVERY: Final = 5.0
"""The same where changes are only spooled. Nobody waits for these, and each round costs those who write a session of
the server's, and syncs of its disk and ours."""
_TRIES: Final = 4
_AWAY: Final = 2.0
_FINAL: Final = (CaptureLost, NotWhole, Refused)


@dataclass(frozen=True)
class Standby:
    """What a follower works on; `maintenance` is beside the twin. `mapping` is None where changes are only spooled."""

    database: Target
    twin: Target
    maintenance: str
    folder: Path
    launch_id: str
    facts: capture.CaptureFacts
    policy: Policy
    mapping: WayBack | None
    operations: Operations | None
    mappers: Mapping[str, Mapping[str, str]]

    @property
    def spool(self) -> Path:
        """The capture's spool."""
        return self.folder / "spool"


@dataclass(frozen=True)
class Look:
    """One round: what was spooled and applied, and how much WAL the server keeps for it (bytes)."""

    spooled: int
    applied: int
    retained_bytes: int


def standby_of(
    plan: PlanFile, launch_id: str, entries: Sequence[Entry], *, carrying: bool | None = None
) -> Standby | None:
    """From the ledger; None where nothing is captured.

    Args:
        carrying: whether changes are to be carried into the twin, where that was proven; by default as the plan says.
    """
    recorded = newest_fact(entries, "capture")
    if recorded is None or recorded["mode"] == "none":
        return None
    proof = newest_fact(entries, PROOF)
    wanted = plan.wayback.follow == "live" if carrying is None else carrying
    live = wanted and proof is not None and bool(proof["proven"])
    pair = standing_pair(plan, launch_id, newest_fact(entries, "twin"))
    return Standby(
        pair.live,
        pair.twin,
        pair.twin_maintenance,
        plan.state / "launches" / launch_id,
        launch_id,
        capture.CaptureFacts.from_json(recorded),
        plan.wayback.policy,
        WayBack.from_json(dict(proof["mapping"])) if live and proof else None,
        Operations.from_json(dict(proof["operations"])) if live and proof else None,
        plan.wayback.mappers if proof is None else proof.get("mappers", plan.wayback.mappers),
    )


def begin(ground: Ground) -> None:
    """Follow beside the steps, where the plan asks for it."""
    if ground.plan.wayback.follow != "live":
        return  # the watch takes the capture off the server at each look
    standby = standby_of(ground.plan, ground.launch_id, ground.ledger.entries)
    if standby is not None and standby.mapping is not None:
        ground.background.go_on(WORK, lambda stop: follow(standby, stop))


def follow(
    standby: Standby,
    stop: Cancelled,
    told: Callable[[Look], None] = lambda _: None,
    hindered: Callable[[Exception], None] = lambda _: None,
) -> None:
    """Until told to stop. PostgreSQL may go away meanwhile and come back, and so may our disk, or the room on it.

    Args:
        told: is given each round.
        hindered: is given what made a round impossible; it is tried again, unless this raises.

    Raises:
        CaptureLost: the capture is not whole any more.
        NotWhole, Refused: the twin cannot be followed any further; spooling alone can go on (`spool_only`).
    """
    while not stop():
        try:
            _follow(standby, stop, told)
        except Interrupted:
            return
        except _FINAL:
            raise
        except (SafepointError, psycopg.Error, sqlite3.Error, OSError) as error:
            hindered(error)
            _wait(stop, _AWAY)


def catch_up(
    standby: Standby, stop: Cancelled, *, rounds: int, enough: float, report: Report = silent
) -> tuple[int, int]:
    """Drain and apply what is there already, while more of it comes; gives how many transactions the twin took, and in
    how many rounds.

    Each round has what was written during the last one, so each is shorter, and there is an end where `rounds` are over
    or one took less than `enough` seconds.

    Raises:
        NotWhole, Refused, CaptureLost, DatabaseError: as `follow`; what former rounds applied stays applied.
        Interrupted: `stop` became true.
    """
    applied = done = 0
    with (
        asking("Carrying transactions back", standby.twin.dbname),
        _applying(standby, stop) as (mapping, twin, source),
    ):
        end_holders(twin, TURN)
        while done < rounds:
            began = time.monotonic()
            applied += _round(standby, mapping, twin, source, stop, report)[1]
            done += 1
            if time.monotonic() - began < enough:
                break
    return applied, done


def spool_only(
    standby: Standby,
    stop: Cancelled,
    told: Callable[[Look], None] = lambda _: None,
    hindered: Callable[[Exception], None] = lambda _: None,
) -> None:
    """As `follow`, and the twin stays as it is."""
    follow(_without_mapping(standby), stop, told, hindered)


def _without_mapping(standby: Standby) -> Standby:
    return Standby(**{**{name: getattr(standby, name) for name in standby.__dataclass_fields__}, "mapping": None})


def _follow(standby: Standby, stop: Cancelled, told: Callable[[Look], None]) -> None:
    if standby.mapping is None:
        while not stop():
            told(Look(_drained(standby, stop), 0, _retained(standby)))
            _wait(stop, SPOOLED_EVERY)
        return
    with _applying(standby, stop) as (mapping, twin, source):
        while not stop():
            spooled, applied = _round(standby, mapping, twin, source, stop)
            told(Look(spooled, applied, _retained(standby)))
            _wait(stop, EVERY)


@contextmanager
def _applying(standby: Standby, stop: Cancelled) -> Iterator[tuple[WayBack, Connection, Connection]]:
    """The mapping, and connections to the twin and to what is captured. A statement there ends with `stop`; one that
    waits for somebody's lock of a live table, which may be held for hours, ends by itself.

    Raises:
        Refused: the schemas are other ones, or nothing may be applied.
        Interrupted: `stop` became true.
    """
    if standby.mapping is None or standby.operations is None:
        raise Refused("The way back is not proven: nothing is applied to the twin.", subject=standby.twin.dbname)
    with (
        entering(standby.twin, standby.maintenance) as twin,
        connect(standby.database, application_name="safepoint follow", options=READ_ONLY, lock_timeout=5) as source,
        cancellable(twin, stop),
        cancellable(source, stop),
    ):
        old = read_catalogue(twin)
        now = plan_mapping(old, read_catalogue(source), standby.operations, standby.mappers)
        mapping = untouched_as_now(standby.mapping, now, old)
        if changed := changed_rules(mapping, now):
            raise Refused(
                "The schemas are not those that the way back was proven on (other rules for "
                f"{', '.join(changed[:5])}): the twin is not followed.",
                subject=standby.twin.dbname,
            )
        yield mapping, twin, source


def _round(
    standby: Standby,
    mapping: WayBack,
    twin: Connection,
    source: Connection,
    stop: Cancelled,
    report: Report = silent,
) -> tuple[int, int]:
    """Drain and apply. Where a large value that was left alone cannot be looked up, because a later transaction took
    the row away, that one is there at the next drain, and the batch is whole with it."""
    spooled = 0
    for attempt in range(_TRIES):
        spooled += _drained(standby, stop)
        try:
            outcome = carry(
                twin,
                source,
                standby.spool,
                mapping,
                Manner(standby.policy, only_whole=True),
                launch_id=standby.launch_id,
                cancelled=stop,
                report=report,
            )
        except NotWhole:
            if attempt + 1 == _TRIES:
                raise
            _wait(stop, 0.3 * attempt)
        else:
            return spooled, outcome.now
    raise AssertionError("unreachable")


def _drained(standby: Standby, stop: Cancelled) -> int:
    if not standby.folder.exists():
        # A spool that is begun anew in its place would have what the server forgets, and nobody would find it.
        raise StorageError(
            f"The launch's folder {standby.folder} is away.",
            subject=str(standby.folder),
            remedy="Mount its disk again, or bring the folder back. Nothing is lost: the server keeps what is not "
            "in its spool yet.",
        )
    found = capture.drain(standby.database, standby.facts, standby.spool, cancelled=stop)
    if not found.complete:
        raise Interrupted("The capture was not drained to its end.", subject=standby.launch_id)
    return found.transactions


def _retained(standby: Standby) -> int:
    with suppress(psycopg.Error):
        return capture.lag(standby.database, standby.facts).retained_bytes
    return 0


def _wait(stop: Cancelled, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(0.02)
