"""`[wayback]` of the plan file: how a rollback carries back, and where the twin stands."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from safepoint.config.section import Address, Argv, Duration, Section, ServerLogin


class WaybackTable(Section):
    """Values of an old table's columns that cannot be derived: old column -> SQL over the new table's row.

    Bare names are the new row's columns; `old.x` is the value that the row had at the safe point.

    `added_rows`, `removed_rows`: a data migration adds rows to this table, or removes some, and it is right that a
    rollback leaves the old release without those, or with these. What was written to added ones, or names them, is put
    aside and listed.
    """

    columns: dict[str, str] = Field(default={}, examples=[{"debit": "greatest(amount_cents, 0) / 100.0"}])
    added_rows: bool = False
    removed_rows: bool = False


class TwinServer(ServerLogin):
    """Another server for the twin, as the conductor connects to it. It needs the application's roles, and room.

    A rollback leads the old release there: by the variable of `application.url_env`, where the conductor has it, with
    this server's address in it (`address`, where the application finds the server by another one than the conductor);
    by the variables in `env`; or by the command `lead`, and `lead_back` for a return, on the application's host.
    """

    maintenance: str = "postgres"
    address: Address | None = None
    env: dict[str, str] = {}
    lead: Argv | None = None
    lead_back: Argv | None = None

    @model_validator(mode="after")
    def _both_ways(self) -> TwinServer:
        if (self.lead is None) != (self.lead_back is None):
            raise ValueError("`lead` and `lead_back` belong together: a rollback can be turned round")
        return self


class Wayback(Section):
    """How a rollback carries back what was written since the launch.

    `policy`: where a row cannot be held by the old schema, it alone is put aside (with what depends on it), or the
    whole transaction that wrote it. `prove = false` leaves out the proof on copies before the launch (it restores the
    snapshot once more, and migrates it); then nothing is carried back, and everything is listed.
    `capture`: by decoding the write-ahead log (`logical`), by `triggers`, or whichever the server allows (`auto`).
    `affected`: whose rows a table's are, where no foreign key leads to the user table: table -> SQL over its row (bare
    names are its columns), which gives the user's key.

    `twin`: a copy made inside the window (`template`), one that is restored before it and kept level (`logical`), or
    whichever fits (`auto`): the copy, as long as it takes no more than `copy_allowance`. `follow = "live"`: what is
    captured is applied to the twin all the time, so that a rollback has only the tail left. `server`: another server,
    on which the twin is kept level; without it the twin stands beside the live database.
    """

    prove: bool = True

    policy: Literal["row", "transaction"] = "row"
    capture: Literal["auto", "logical", "triggers"] = "auto"
    affected: dict[str, str] = Field(
        default={}, examples=[{"shop_draft": "(SELECT user_id FROM shop_workspace w WHERE w.code = workspace)"}]
    )
    twin: Literal["auto", "logical", "template"] = "auto"
    copy_allowance: Duration = timedelta(seconds=2)
    follow: Literal["spool", "live"] = "spool"
    server: TwinServer | None = None
    tables: dict[str, WaybackTable] = {}

    @model_validator(mode="after")
    def _can_be_there(self) -> Wayback:
        if self.server is not None and self.twin == "template":
            raise ValueError('twin = "template" is a copy on the live server: leave out [wayback.server], or `twin`')
        return self

    @property
    def mappers(self) -> dict[str, dict[str, str]]:
        """The expressions by old table and column."""
        return {name: dict(table.columns) for name, table in self.tables.items()}

    @property
    def added_rows(self) -> frozenset[str]:
        """The tables to which a migration may add rows."""
        return frozenset(name for name, table in self.tables.items() if table.added_rows)

    @property
    def removed_rows(self) -> frozenset[str]:
        """The tables of which a migration may remove rows."""
        return frozenset(name for name, table in self.tables.items() if table.removed_rows)
