"""The table `[rehearsal]` of the plan file: what a rehearsal looks at, and which findings a person has accepted."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from safepoint.config.rules import RULES
from safepoint.config.section import Duration, Section


class Invariant(Section):
    """A query for each schema, where one cannot serve both; their answers must be equal."""

    before: str
    """What is asked of the old schema."""
    after: str
    """What is asked of the new one."""


class Waiver(Section):
    """A finding of the lint that a person accepts."""

    rule: str = Field(examples=["narrows-column"])
    """The rule's name, as the rehearsal prints it."""
    by: str = Field(min_length=2, examples=["Dana Scully"])
    """Who accepts it."""
    reason: str = Field(min_length=4, examples=["no memo is longer: support has checked it"])
    """Why; it stands in the report."""
    migration: str | None = Field(
        default=None, pattern=r"^(?:[A-Za-z_]\w*\.\w+|post_migrate)$", examples=["ledger.0003_entry_fields"]
    )
    """The one migration that it is accepted of (or `post_migrate`: its handlers); all of them otherwise."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.by})"

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule in RULES:
            return rule
        near = get_close_matches(rule, RULES, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are: {', '.join(sorted(RULES))}"
        raise ValueError(f"no rule of the lint is called {rule!r}; {meant}")


class Rehearsal(Section):
    """What a rehearsal looks at beyond what it always does."""

    required: bool = True
    """The launch rehearses its migrations the day before, and does not begin its window without a rehearsal of these
    very migrations. `false` leaves it out, which is said at the gate.
    """
    max_age: Duration = timedelta(hours=36)
    """How old the snapshot of that rehearsal may be."""
    mode: Literal["window", "rolling"] = "window"
    """For the lint. `window`: nobody but the migration works in the database. `rolling` (or a canary): the old code
    goes on working in the migrated one.
    """
    invariants: dict[str, str | Invariant] = Field(
        default={}, examples=[{"entries": "SELECT count(*) FROM ledger_journalentry"}]
    )
    """Queries whose answer must be the same before and after the migrations, by a name for people; `{ before = "...",
    after = "..." }` where one query cannot serve both schemas.
    """
    waivers: tuple[Waiver, ...] = ()
    env: dict[str, str] = Field(default={}, examples=[{"CACHE_URL": "redis://127.0.0.1:6379/9", "STATE": "{folder}"}])
    """Variables of the new release while it is rehearsed, by which it is led away from what the live site uses: caches,
    logs, pid files, queues. `{folder}` is a folder of the rehearsal's own, which is removed at its end.
    """

    def variables(self, folder: Path) -> dict[str, str]:
        """`env` with the rehearsal's own folder in it."""
        return {name: value.replace("{folder}", str(folder)) for name, value in self.env.items()}
