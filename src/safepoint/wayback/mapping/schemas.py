"""Both schemas of a launch and the operations between them, kept as JSON: a mapping can be worked out again from them.

So a mapper that was written into the plan file since is seen in the printed table at once, without another copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safepoint.django.operations import Operations
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import (
    Catalogue,
    Column,
    Exclusion,
    ForeignKey,
    Table,
    Trigger,
    Unique,
    read_catalogue,
)
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import Mappers, WayBack


@dataclass(frozen=True)
class Schemas:
    """The old and the new catalogue, and what the migrations in between did."""

    old: Catalogue
    new: Catalogue
    operations: Operations

    @classmethod
    def of(cls, old: Target, migrated: Target, operations: Operations) -> Schemas:
        """Both catalogues as they are."""
        with connect(old) as before, connect(migrated) as after:
            return cls(read_catalogue(before), read_catalogue(after), operations)

    def mapping(self, mappers: Mappers | None = None) -> WayBack:
        """The way back between them, by the plan's own expressions as they are now."""
        return plan_mapping(self.old, self.new, self.operations, mappers)

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"old": _written(self.old), "new": _written(self.new), "operations": self.operations.as_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schemas:
        """The inverse of `as_json`."""
        return cls(_read(data["old"]), _read(data["new"]), Operations.from_json(dict(data["operations"])))


def _written(catalogue: Catalogue) -> dict[str, Any]:
    tables = {name: asdict(table) for name, table in catalogue.tables.items()}
    return {"tables": tables, "casts": sorted(catalogue.casts), "composites": catalogue.composites}


def _read(data: Mapping[str, Any]) -> Catalogue:
    tables = {name: _table(dict(table)) for name, table in data["tables"].items()}
    composites = data.get("composites", {})  # what a former version kept has none
    known = {name: tuple((one, kind) for one, kind in of) for name, of in composites.items()}
    return Catalogue(tables, frozenset((source, target) for source, target in data["casts"]), known)


def _table(data: dict[str, Any]) -> Table:
    return Table(
        **{
            **data,
            "columns": tuple(Column(**column) for column in data["columns"]),
            "uniques": tuple(Unique(**_tuples(one)) for one in data["uniques"]),
            "foreign_keys": tuple(ForeignKey(**_tuples(one)) for one in data["foreign_keys"]),
            "partial_keys": tuple(ForeignKey(**_tuples(one)) for one in data.get("partial_keys", ())),
            "exclusions": tuple(Exclusion(**_tuples(one)) for one in data.get("exclusions", ())),
            "triggers": tuple(Trigger(**one) for one in data["triggers"]),
            "checks": tuple((name, check) for name, check in data["checks"]),
            **{name: tuple(data[name]) for name in ("primary_key", "leaves", "replica")},
            "parted_by": tuple(data.get("parted_by", ())),
            "apart": tuple(_table(dict(one)) for one in data.get("apart", ())),
        }
    )


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
