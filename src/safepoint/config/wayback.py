"""`[wayback]` of the plan file: how a rollback carries back, and where the twin stands."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from safepoint.config.section import Address, Argv, Duration, Section, ServerLogin


class WaybackTable(Section):
    """What a person says of an old table: values of its columns that cannot be derived, rows that are not its own.
    A name without its schema is that of each tenant, where tenants have schemas.
    """

    columns: dict[str, str] = Field(default={}, examples=[{"debit": "greatest(amount_cents, 0) / 100.0"}])
    """Old column -> SQL over the new table's row. Bare names are the new row's columns; `old.x` is the value that the
    row had at the safe point. A subquery may read any table of the new schema, and names the row's columns as `new.x`.
    For column x both go together as `coalesce(old.x, (SELECT ...))`: only a row that was not there has its value read.
    """
    added_rows: bool = False
    """A data migration adds rows to this table, and it is right that a rollback leaves the old release without them.
    What was written to them, or names them, is put aside and listed.
    """
    removed_rows: bool = False
    """A data migration removes rows of this table, and it is right that the old release has them again."""


class UnprovenWayBack(Section):
    """A launch whose way back is not proven, accepted by a person. Without it the gate before the window says no-go."""

    release: str = Field(examples=["2.0"])
    """The release of which it is accepted; of another one it is not."""
    by: str = Field(min_length=2, examples=["Dana Scully"])
    """Who accepts it."""
    reason: str = Field(min_length=4, examples=["nobody writes until Monday; support knows"])
    """Why; it stands in the ledger and in the report."""

    def __str__(self) -> str:
        return f"{self.reason} ({self.by})"


class TwinServer(ServerLogin):
    """Another server for the twin, as the conductor connects to it. It needs the application's roles, and room.

    A rollback leads the old release there: by the variable of `application.url_env`, where the conductor has it, or by
    host and port of `[application.variables]`, with this server's address in them; by the variables in `env`; or by the
    command `lead`.
    """

    maintenance: str = "postgres"
    """The database there to connect to while another is renamed."""
    address: Address | None = None
    """The server as the application finds it, if it has another address there than here."""
    env: dict[str, str] = {}
    """Variables that lead the old release to this server."""
    lead: Argv | None = None
    """Leads the application to this server; runs on the application's host."""
    lead_back: Argv | None = None
    """Leads it back, when a rollback is turned round."""

    @model_validator(mode="after")
    def _both_ways(self) -> TwinServer:
        if (self.lead is None) != (self.lead_back is None):
            raise ValueError("`lead` and `lead_back` belong together: a rollback can be turned round")
        return self


class Wayback(Section):
    """How a rollback carries back what was written since the launch, and where the twin stands."""

    prove: bool = True
    """Proves the way back on copies before the launch: the snapshot is restored once more, and migrated. With `false`
    nothing is carried back, and everything is listed, which is said at the gate.
    """
    waiver: UnprovenWayBack | None = None
    policy: Literal["row", "transaction"] = "row"
    """What is put aside where a row cannot be held by the old schema: it alone with what depends on it, or the whole
    transaction that wrote it.
    """
    capture: Literal["auto", "logical", "triggers"] = "auto"
    """How what is written is captured: by decoding the write-ahead log, by triggers, or as the server allows."""
    affected: dict[str, str] = Field(
        default={}, examples=[{"shop_draft": "(SELECT user_id FROM shop_workspace w WHERE w.code = workspace)"}]
    )
    """Whose rows a table's are, where no foreign key leads to the user table: table -> SQL over its row (bare names are
    its columns), which gives the user's key.
    """
    twin: Literal["auto", "logical", "template"] = "auto"
    """How the twin comes to be: a copy inside the window (`template`), one that is restored before it and kept level
    (`logical`), or whichever fits: the copy, as long as it takes no more than `copy_allowance`.
    """
    copy_allowance: Duration = timedelta(seconds=2)
    """How long the window may wait for that copy."""
    follow: Literal["spool", "live"] = "spool"
    """`live`: what is captured is applied to the twin all the time, so that a rollback has only the tail left."""
    server: TwinServer | None = None
    tables: dict[str, WaybackTable] = {}

    @model_validator(mode="after")
    def _can_be_there(self) -> Wayback:
        if self.server is not None and self.twin == "template":
            raise ValueError('twin = "template" is a copy on the live server: leave out [wayback.server], or `twin`')
        return self

    def waived(self, release: str) -> UnprovenWayBack | None:
        """Who has accepted, and why, that this release's way back is not proven; None where nobody has."""
        return self.waiver if self.waiver is not None and self.waiver.release == release else None

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
