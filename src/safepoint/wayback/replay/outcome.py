"""What a replay did: carried, stashed, put aside, by table and by transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

_COUNTED: Final = ("inserted", "updated", "deleted", "stashed", "put_aside", "conflicts")
State = Literal["partly", "stashed", "not carried"]


@dataclass(frozen=True)
class TableOutcome:
    """Rows of one table. `put_aside` the old schema cannot hold; `conflicts` are not as the capture says they were."""

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    stashed: int = 0
    put_aside: int = 0
    conflicts: int = 0

    @property
    def carried(self) -> int:
        """Rows that the old table has now, or has no longer."""
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class Aside:
    """A row that was not carried. `key` names it in the new schema; `kind` says of what sort the reason is."""

    table: str
    action: str
    kind: str
    reason: str
    key: Mapping[str, str | None]
    xid: int
    commit_lsn: str
    committed_at: str | None


@dataclass(frozen=True)
class Outcome:
    """A replay as a whole. Numbers of transactions: `carried` with all their rows (values without a home stashed),
    `partly`, only `stashed`, `not_carried`; together they are `transactions`.

    All of it counts what was done so far, also by earlier replays of the same capture; `now` are the transactions of
    this one. `already`: it had been done before, nothing was changed now. `aside` are the first rows; all stand in
    `files`. `partitions`: see `partitions.former`. `dangling` rows were carried and name one that was not (`loose`).
    `made` are partitions that the twin got (`made_since`). `passed_over` rows nobody wrote: see there.
    """

    launch_id: str
    up_to: str
    transactions: int
    changes: int
    carried: int
    partly: int
    stashed: int
    not_carried: int
    tables: tuple[TableOutcome, ...]
    aside: tuple[Aside, ...]
    sequences: Mapping[str, int]
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    already: bool = False
    now: int = 0
    partitions: Mapping[str, str] = field(default_factory=dict)
    dangling: int = 0
    made: tuple[str, ...] = ()
    passed_over: int = 0

    def after(self, earlier: Outcome) -> Outcome:
        """This replay and those before it as one: what became of everything so far."""
        tables = {one.table: one for one in earlier.tables}
        for one in self.tables:
            before = tables.get(one.table, TableOutcome(one.table))
            sums = {name: getattr(before, name) + getattr(one, name) for name in _COUNTED}
            tables[one.table] = TableOutcome(one.table, **sums)
        counts = ("transactions", "changes", "carried", "partly", "stashed", "not_carried", "dangling", "passed_over")
        return replace(
            self,
            **{name: getattr(earlier, name) + getattr(self, name) for name in counts},
            tables=tuple(tables[name] for name in sorted(tables)),
            aside=(*earlier.aside, *self.aside),
            sequences={**earlier.sequences, **self.sequences},
            made=(*earlier.made, *self.made),
        )

    @property
    def put_aside(self) -> int:
        """Rows that were not carried, conflicts among them."""
        return sum(table.put_aside + table.conflicts for table in self.tables)

    def as_json(self) -> dict[str, Any]:
        """For the ledger and the report."""
        return {**asdict(self), "put_aside": self.put_aside}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """Back from the ledger."""
        values = {name: value for name, value in data.items() if name != "put_aside"}
        values["made"] = tuple(data.get("made", ()))
        values["tables"] = tuple(TableOutcome(**one) for one in data["tables"])
        values["aside"] = tuple(Aside(**one) for one in data["aside"])
        return cls(**values)
