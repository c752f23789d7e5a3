"""Another launch of the application that is under way or stands by, where the plan file's own has not begun.

A launch is found by its id, which is made of the plan file's version and date: who changes these after it began (for
the next one, say) is told so, and not that nothing has begun and the old release serves everyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safepoint.config import PlanFile
from safepoint.errors import SafepointError
from safepoint.launch.begin import no_way_back, status_of
from safepoint.launch.ledger import read
from safepoint.launch.whose import is_of, own_mark


@dataclass(frozen=True)
class Other:
    """A launch that a rollback or an order may be meant for; `began_with` is the plan file that it was begun by."""

    launch_id: str
    status: Literal["under way", "launched"]
    began_with: str | None

    def __str__(self) -> str:
        return f"{self.launch_id} is under way" if self.status == "under way" else f"{self.launch_id} was launched"

    def remedy(self, plan_file: PlanFile) -> str:
        """How an order reaches it."""
        here = str(plan_file.path.resolve())
        if self.began_with not in (None, here):
            return f"For {self.launch_id} name its own plan file: --plan {self.began_with}."
        return (
            f"If you mean {self.launch_id}: it goes by another version or date than {here} has now. Set these back "
            "(launch.date, launch.id, releases.*) as they were when it began; then give the command again."
        )


def other_launch(plan_file: PlanFile) -> Other | None:
    """The one under way before the one that stands by, the newest of these first; None where there is none."""
    found = []
    for path in (plan_file.state / "launches").glob("*/ledger.jsonl"):
        try:
            entries = list(read(path))
        except (SafepointError, OSError):
            continue  # `prune` and `restore` heed it; nobody can say what it is
        begun = next((entry for entry in entries if entry.kind == "launch"), None)
        if begun is None or path.parent.name == plan_file.launch_id or no_way_back(entries):
            continue
        if not is_of(plan_file.launch.application, entries):
            continue
        if begun.data.get("database", own_mark(plan_file)) != own_mark(plan_file):
            continue
        status = status_of(entries)
        if status in (None, "launched"):
            other = Other(path.parent.name, "launched" if status else "under way", begun.data.get("from"))
            found.append((status is None, entries[-1].when, other))
    return max(found, key=lambda one: one[:2])[2] if found else None
