"""What has changed since a snapshot: its restored copy against the live database, down to columns and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safepoint.backup.explain import TableDifference, explain
from safepoint.backup.fingerprint import take
from safepoint.backup.prints import Difference, Fingerprint, compare
from safepoint.backup.restoring import Restored
from safepoint.backup.traces import without_own
from safepoint.postgres.target import Target
from safepoint.progress import Report, silent


@dataclass(frozen=True)
class Comparison:
    """A restored snapshot and a database: all that differs, and for tables in which rows and columns.

    `left_out` names what Safepoint itself has, or had, standing in one of them: a capture is no difference.
    """

    snapshot_id: str
    against: str
    differences: tuple[Difference, ...]
    tables: tuple[TableDifference, ...]
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For `verify --explain --json`."""
        return {
            "snapshot": self.snapshot_id,
            "against": self.against,
            "differences": [one.as_json() for one in self.differences],
            "tables": [one.as_json() for one in self.tables],
            "left_out": list(self.left_out),
        }

    def lines(self) -> list[str]:
        """As a person reads it."""
        own = [f"(left out, as it is Safepoint's own: {', '.join(self.left_out)})"] if self.left_out else []
        if not self.differences:
            return [f"{self.against} is as {self.snapshot_id} has it.", *own]
        explained = {one.table for one in self.tables}
        return [
            f"{self.against} differs from {self.snapshot_id}:",
            *(f"- {one}" for one in self.differences if one.kind != "table" or one.name not in explained),
            *(line if line.startswith(" ") else f"- {line}" for table in self.tables for line in table.lines()),
            *own,
        ]


def comparer(
    live: Target,
    tell: Callable[[Comparison], None],
    *,
    jobs: int = 2,
    report: Report = silent,
) -> Callable[[Restored, Fingerprint], None]:
    """What `prove` may call while the restored copy stands: compares it with a database and tells the result."""

    def look(copy: Restored, found: Fingerprint) -> None:
        other = take(live, jobs=jobs, report=report, version=found.format)
        (ours, here), (theirs, there) = without_own(found), without_own(other)
        differences = compare(ours, theirs)
        both = [one.name for one in differences if one.kind == "table" and one.expected and one.found]
        tables = explain(copy.target, live, both, report=report)
        left_out = tuple(dict.fromkeys((*here, *there)))
        tell(Comparison(copy.manifest.id, live.dbname, differences, tables, left_out))

    return look
