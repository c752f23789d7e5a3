"""The pending migrations by content, and undoing them: both asked of the project itself, one start of Django each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from safepoint.django.managepy import Manage
from safepoint.django.piped import ask
from safepoint.django.standby import Standby
from safepoint.errors import Refused


@dataclass(frozen=True)
class PendingMigration:
    """One migration that `migrate` would apply. `sha256` is that of its file; None where it has none.

    `opaque` names the kinds of its operations that may change rows (RunPython, RunSQL); `replaces` those that a
    squashed one stands for. `writes`: it may change rows, for it has code, or SQL that does more than to define.
    """

    label: str
    sha256: str | None
    atomic: bool
    reversible: bool
    opaque: tuple[str, ...]
    replaces: tuple[str, ...] = ()
    writes: bool = True

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "opaque": list(self.opaque), "replaces": list(self.replaces)}


@dataclass(frozen=True)
class OtherDatabase:
    """A further database that the project has. `place` is a digest of its address, `identity` as `inspector.IDENTITY`
    has it: None where it does not answer, or is no PostgreSQL. `writable`: for all that is known. `beside`: by its
    settings it is on the server of the default one."""

    alias: str
    place: str
    identity: str | None = None
    writable: bool = True
    vendor: str = "postgresql"
    beside: bool = False

    @property
    def missing(self) -> bool:
        """Whether the server that answers for the default one has no such database, or lets nobody into it."""
        return self.beside and self.identity is None and self.vendor == "postgresql"


@dataclass(frozen=True)
class Pending:
    """What `migrate` would do. `identity` is the database asked (see `inspector.IDENTITY`)."""

    identity: str
    others: tuple[OtherDatabase, ...]
    migrations: tuple[PendingMigration, ...]

    @property
    def exposed(self) -> tuple[OtherDatabase, ...]:
        """Further databases that a migration could write to: not those that are this very one by another alias, and
        none that is missing."""
        return tuple(one for one in self.others if one.writable and one.identity != self.identity and not one.missing)

    @property
    def labels(self) -> tuple[str, ...]:
        """`app.0002_name` of each, in the order in which they are applied."""
        return tuple(migration.label for migration in self.migrations)

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents: another digest means other migrations."""
        facts = [[migration.label, migration.sha256] for migration in self.migrations]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class Refusal:
    """What PostgreSQL refused, by the fields of its error; `statement` is the one that failed.

    See https://www.postgresql.org/docs/current/protocol-error-fields.html
    """

    sqlstate: str
    statement: str = ""
    schema: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Reversal:
    """How undoing ended. `left` are the migrations that stayed applied; `migration` the one at which it failed, and
    `refused` what the server said there, where it was the server that did."""

    error: str | None
    migration: str | None
    left: tuple[str, ...]
    seconds: float
    said: str
    refused: Refusal | None = None


def read_pending(manage: Manage) -> Pending:
    """Ask the release which migrations are pending, and what is in their files. Nothing is changed.

    Raises:
        CommandFailed: the project cannot be started, or its database does not answer.
    """
    return pending(ask(manage, "pending", {"database": "default"}))


def pending(answer: dict[str, Any]) -> Pending:
    """Read the script's answer. Pure."""
    lists = ("opaque", "replaces")
    migrations = tuple(
        PendingMigration(**{**one, **{name: tuple(one[name]) for name in lists}}) for one in answer["migrations"]
    )
    others = tuple(OtherDatabase(**one) for one in answer["others"])
    return Pending(answer["identity"], others, migrations)


def reverse(
    manage: Manage,
    migrations: Sequence[str],
    *,
    identity: str,
    cancelled: Callable[[], bool] | None = None,
    standby: Standby | None = None,
) -> Reversal:
    """Undo these migrations. That one of them cannot be undone is an answer, not an error.

    Args:
        identity: of the database in which they are undone (see `inspector.IDENTITY`).
        standby: a process of the same `manage` that waits already.

    Raises:
        Refused: the project is connected to another one; nothing was undone.
        CommandFailed: the project cannot be started, or its database does not answer.
        Interrupted: it was cancelled.
    """
    parameters = {"database": "default", "migrations": list(migrations), "identity": identity}
    answer = ask(manage, "reversal", parameters, timeout=None, cancelled=cancelled, standby=standby)
    if "elsewhere" in answer:
        raise Refused(
            "The application does not go to the copy on which its migrations are to be undone.",
            subject="default",
            expected=f"database {identity} (oid@start of the server)",
            found=str(answer["elsewhere"]),
            remedy="Do the settings take the address of the default database from this variable alone? "
            "Nothing was undone.",
        )
    refused = None if answer["refused"] is None else Refusal(**answer["refused"])
    return Reversal(**{**answer, "left": tuple(answer["left"]), "refused": refused})
