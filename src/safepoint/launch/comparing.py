"""What has changed since a snapshot: its restored copy against the live database, down to columns and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safepoint.backup.explain import LIMIT, TableDifference, explain
from safepoint.backup.fingerprint import take
from safepoint.backup.prints import Difference, Fingerprint, compare
from safepoint.backup.restoring import Restored
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, never, silent


@dataclass(frozen=True)
class Comparison:
    """A restored snapshot and a database: all that differs, and for tables in which rows and columns."""

    snapshot_id: str
    against: str
    differences: tuple[Difference, ...]
    tables: tuple[TableDifference, ...]

    def as_json(self) -> dict[str, Any]:
        """For `verify --explain --json`."""
        return {
            "snapshot": self.snapshot_id,
            "against": self.against,
            "differences": [one.as_json() for one in self.differences],
            "tables": [one.as_json() for one in self.tables],
        }

    def lines(self) -> list[str]:
        """As a person reads it."""
        if not self.differences:
            return [f"{self.against} is as {self.snapshot_id} has it."]
        explained = {one.table for one in self.tables}
        return [
            f"{self.against} differs from {self.snapshot_id}:",
            *(f"- {one}" for one in self.differences if one.kind != "table" or one.name not in explained),
            *(line if line.startswith(" ") else f"- {line}" for table in self.tables for line in table.lines()),
        ]


def comparer(
    live: Target,
    tell: Callable[[Comparison], None],
    *,
    jobs: int = 2,
    limit: int = LIMIT,
    report: Report = silent,
    cancelled: Cancelled = never,
) -> Callable[[Restored, Fingerprint], None]:
    """What `prove` may call while the restored copy stands: compares it with a database and tells the result."""

    def look(copy: Restored, found: Fingerprint) -> None:
        other = take(live, jobs=jobs, report=report, cancelled=cancelled, version=found.format)
        differences = compare(found, other)
        both = [one.name for one in differences if one.kind == "table" and one.expected and one.found]
        tables = explain(copy.target, live, both, limit=limit, report=report, cancelled=cancelled)
        tell(Comparison(copy.manifest.id, live.dbname, differences, tables))

    return look
