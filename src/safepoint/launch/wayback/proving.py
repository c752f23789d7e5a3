"""The way back proven on copies: every migrated row taken back to what it was, by a mapping that is then kept.

The rehearsal and the launch's own step prove it in the same way; no proof is an answer with its reasons, no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from safepoint.backup.prints import FORMAT, Fingerprint
from safepoint.config import PlanFile
from safepoint.django.operations import Operations
from safepoint.errors import DatabaseError
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled
from safepoint.wayback.mapping.mapping import Mappers, WayBack
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.mapping.tenants import named
from safepoint.wayback.sessions import asking
from safepoint.wayback.trial import roundtrip
from safepoint.wayback.trial.exchanged import exchanged
from safepoint.wayback.trial.roundtrip import Accepted, RoundTrip

Keep = Callable[..., object]
"""Is given `schemas`, and `trip` and `doubts`, as far as they came to be known."""


@dataclass(frozen=True)
class Proven:
    """What a round trip proved. Without `mapping` nothing is carried, and `doubts` say why, one sentence each."""

    mapping: WayBack | None
    schemas: Schemas | None
    doubts: tuple[str, ...]
    rows: int = 0
    tables: int = 0
    seconds: float = 0.0
    accepted: Accepted = roundtrip.NOTHING
    mappers: Mappers = field(default_factory=dict)

    @property
    def proven(self) -> bool:
        """Whether a rollback may carry rows by it."""
        return self.mapping is not None and not self.doubts

    def as_fact(self) -> dict[str, Any]:
        """As the launch records it: the mapping with the operations and mappers that it came from, or the reasons."""
        if self.mapping is None or self.schemas is None or self.doubts:
            return {"proven": False, "reasons": list(self.doubts)}
        operations = self.schemas.operations.as_json()
        mappers = {table: dict(columns) for table, columns in self.mappers.items()}
        return {"proven": True, "mapping": self.mapping.as_json(), "operations": operations, "mappers": mappers}

    def as_json(self) -> dict[str, Any]:
        """For the rehearsal's file: the mapping itself is in `way-back.json`."""
        return {
            "proven": self.proven,
            "doubts": list(self.doubts),
            "rows": self.rows,
            "tables": self.tables,
            "seconds": self.seconds,
            "mappers": {table: dict(columns) for table, columns in self.mappers.items()},
        }

    def summary(self) -> str:
        """One line."""
        if not self.proven:
            return f"not proven, a rollback will list instead of carrying: {self.doubts[0]}"
        return f"proven: {self.rows:,} migrated rows in {self.tables} tables come back as they were"


def unproven(*doubts: str) -> Proven:
    """Nothing was proven, for these reasons."""
    return Proven(None, None, doubts)


def prove_way_back(
    plan: PlanFile,
    before: Target,
    migrated: Target,
    operations: Operations,
    *,
    keep: Keep,
    cancelled: Cancelled,
    was: Fingerprint | None = None,
    jobs: int | None = None,
) -> Proven:
    """Make the round trip between two copies that stand still.

    Args:
        was: the fingerprint of the one before.
        jobs: sessions that may read at the same time; None: as many as the plan says.

    Raises:
        Interrupted: it was cancelled.
    """
    try:
        schemas = Schemas.of(before, migrated, operations)
    except DatabaseError as error:
        return unproven(_in_words(error))
    trip: RoundTrip | None = None
    doubts: tuple[str, ...] = ()
    try:
        mapping = schemas.mapping(plan.wayback.mappers)
        known = {} if was is None or was.format != FORMAT else was.tables
        prints = {name: (one.rows, one.content) for name, one in known.items()}
        read = schemas.old, schemas.new
        trip = roundtrip.round_trip(
            before,
            migrated,
            mapping,
            known=prints,
            catalogues=read,
            jobs=jobs or plan.snapshot.jobs,
            cancelled=cancelled,
        )
        accepted = Accepted.of(schemas.old, plan.wayback.added_rows, plan.wayback.removed_rows, operations.caches)
        doubts = (*roundtrip.doubtful(mapping, trip, accepted), *_exchanged(plan, before, migrated, schemas, mapping))
    except DatabaseError as error:
        return unproven(_in_words(error))
    finally:
        keep(schemas, trip=trip, doubts=doubts)  # what is known stands, even where no round trip can be made
    rows = sum(table.rows for table in trip.tables)
    return Proven(mapping, schemas, doubts, rows, len(trip.tables), trip.seconds, accepted, plan.wayback.mappers)


def _in_words(error: DatabaseError) -> str:
    """With what PostgreSQL said: that it refused tells nobody what to do."""
    return error.message if error.found is None else f"{error.message.rstrip('.')}: {error.found}"


def _exchanged(plan: PlanFile, before: Target, migrated: Target, schemas: Schemas, mapping: WayBack) -> tuple[str, ...]:
    """What no row tells: the one is a copy of the other as it was, so that the catalogue's numbers do."""
    names = {table.name for name in plan.wayback.mappers for table in named(schemas.old, name)}
    with (
        connect(before, application_name="safepoint round trip") as old,
        connect(migrated, application_name="safepoint round trip") as new,
        asking("Comparing the catalogues", before.dbname),
    ):
        return exchanged(old, new, mapping, schemas.old, names)
