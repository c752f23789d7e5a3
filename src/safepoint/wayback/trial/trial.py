"""A rollback rehearsed: writes of every kind on a migrated copy, captured and replayed as after a real launch.

Afterwards every row of the migrated copy must be, by the mapping, the row of the twin: what the round trip asked
of the data that was there is asked again of the data that people may write.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safepoint.errors import SafepointError
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.capture.capture import CaptureFacts, disarm, drain
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.reading import read_tables
from safepoint.wayback.replay.manner import Policy
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.trial.roundtrip import NOTHING, Accepted, doubtful, round_trip
from safepoint.wayback.trial.writes import KINDS, Write, empty_with_dependants, write_everything

LAUNCH = "rehearsal"


@dataclass(frozen=True)
class Trial:
    """How it went. `verdict`: `equal`, `differs` (that is a fault), or `not tried`, and `reasons` say why.

    `writes` counts by kind the tables in which such a write was accepted; `refused` are those that the schema's own
    rules did not take, as far as a kind was not tried at all in its table. `aside` rows the old schema cannot hold.
    """

    verdict: Literal["equal", "differs", "not tried"]
    reasons: tuple[str, ...]
    writes: Mapping[str, int]
    refused: tuple[str, ...] = ()
    transactions: int = 0
    carried: int = 0
    aside: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "reasons": list(self.reasons), "refused": list(self.refused)}


def not_tried(reason: str) -> Trial:
    """Nothing was tried."""
    return Trial("not tried", (reason,), {})


def try_replay(
    twin: Target,
    live: Target,
    mapping: WayBack,
    folder: Path,
    facts: CaptureFacts,
    *,
    catalogues: tuple[Catalogue, Catalogue] | None = None,
    policy: Policy = "row",
    maintenance: str = "postgres",
    cancelled: Cancelled = never,
    accepted: Accepted = NOTHING,
) -> Trial:
    """Write, capture, replay and compare. Both databases are copies that are thrown away afterwards.

    Args:
        folder: for the spool and the files of the replay.
        facts: the capture that `arm` began on `live` for `LAUNCH`, before anything was written; it is ended here.
        catalogues: of both, where they have been read.
        accepted: what the proof of the mapping let pass.

    Raises:
        Interrupted: it was cancelled.
    """
    began = time.monotonic()
    if facts.mode == "none":
        return not_tried(f"the changes cannot be captured: {facts.reason}")
    try:
        writes, outcome, reasons = _Copies(
            twin, live, mapping, folder, facts, catalogues, policy, maintenance, cancelled, accepted
        ).tried()
    finally:
        disarm(live, facts)
    done = Counter(one.kind for one in writes if one.rows)
    if not done:
        return not_tried("no table took a write: there is no data")
    # A row that the migration added is not there for what was written to it.
    conflicts = sum(table.conflicts for table in outcome.tables if table.table not in accepted.added)
    equal = not conflicts and (bool(outcome.put_aside) or not reasons)
    return Trial(
        "equal" if equal else "differs",
        tuple(reasons),
        {kind: done[kind] for kind in KINDS},
        _refused(writes),
        outcome.transactions,
        outcome.carried,
        outcome.put_aside,
        round(time.monotonic() - began, 3),
    )


@dataclass(frozen=True)
class _Copies:
    """The migrated copy, the twin, and all that a rollback between them goes by."""

    twin: Target
    live: Target
    mapping: WayBack
    folder: Path
    facts: CaptureFacts
    catalogues: tuple[Catalogue, Catalogue] | None
    policy: Policy
    maintenance: str
    cancelled: Cancelled
    accepted: Accepted

    def tried(self) -> tuple[tuple[Write, ...], Outcome, list[str]]:
        """What was written, what the last replay says, and what is not as it should be."""
        with connect(self.live, application_name="safepoint trial") as connection:
            catalogue = read_catalogue(connection) if self.catalogues is None else self.catalogues[1]
            tables = [rule.new for rule in self.mapping.tables if rule.new in catalogue.tables]
            read = sorted(read_tables(connection, self.mapping, catalogue) - {*tables})
            writes = write_everything(connection, catalogue, tables, read)
            outcome = self._carried()
            reasons = self._differences(outcome, self.mapping)
            emptied = None if reasons else empty_with_dependants(connection, catalogue, tables)
        if emptied is None:
            return writes, outcome, reasons
        # What was compared above is gone now; what is left to compare are the tables that must be empty.
        write, empty = emptied
        outcome = self._carried()
        fewer = replace(self.mapping, tables=tuple(rule for rule in self.mapping.tables if rule.new in empty))
        return (*writes, write), outcome, self._differences(outcome, fewer)

    def _carried(self) -> Outcome:
        spool = self.folder / "spool"
        drain(self.live, self.facts, spool, cancelled=self.cancelled)
        return replay(
            self.twin,
            self.live,
            spool,
            self.mapping,
            launch_id=LAUNCH,
            out=self.folder / "carried",
            policy=self.policy,
            maintenance=self.maintenance,
            cancelled=self.cancelled,
        )

    def _differences(self, outcome: Outcome, mapping: WayBack) -> list[str]:
        """Where rows were put aside, they are what differs."""
        if outcome.put_aside:
            return [f"{one.table}: {one.reason}" for one in outcome.aside[:5]]
        trip = round_trip(self.twin, self.live, mapping, catalogues=self.catalogues, cancelled=self.cancelled)
        return list(doubtful(mapping, trip, self.accepted))


def failed(error: SafepointError) -> Trial:
    """The rehearsed replay raised: so would the real one."""
    return Trial("differs", (error.message,), {})


def _refused(writes: tuple[Write, ...]) -> tuple[str, ...]:
    """By kind, the tables in which it was refused, with the reason."""
    return tuple(f"{one.kind} in {one.table}: {one.refused}" for one in writes if not one.rows and one.refused)
