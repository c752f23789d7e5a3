"""What migrations do to tables and columns, as data: asked of the project itself, with the state before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from safepoint.django.managepy import Manage
from safepoint.django.piped import MIGRATIONS_SECONDS, ask

What = Literal[
    "table-created",
    "table-deleted",
    "table-renamed",
    "model-renamed",
    "column-added",
    "column-removed",
    "column-renamed",
    "column-altered",
]


@dataclass(frozen=True)
class StateColumn:
    """A column as the models mean it. `default` is what Django itself writes, as PostgreSQL's text.

    `db_default`: the database fills it in by itself, for a program that does not know the column.
    """

    type: str
    null: bool
    primary_key: bool
    unique: bool
    references: str | None
    default: str | None
    db_default: bool = False


@dataclass(frozen=True)
class Effect:
    """What became of a table or a column. `before` and `after` are the table's names.

    `name` is the column (before it, where `now` is its new name); of a renamed model the new label, `app.model`.
    `was` and `becomes` say how an altered or added column is declared. `claimed`: the models' state says so of what SQL
    or code of somebody's own did; the catalogues tell whether it is so.
    """

    what: What
    model: str
    before: str
    after: str
    name: str | None = None
    now: str | None = None
    claimed: bool = False
    was: StateColumn | None = field(default=None, compare=False)
    becomes: StateColumn | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Operation:
    """One operation. `opaque`: it may change rows, or what Django's state does not know of (RunPython, RunSQL).

    `table` is that of the model it names. `hides`: it is SQL that changes tables and gives no `state_operations`.
    `loosens`: of the rules on which columns are unique together it only takes away.
    """

    migration: str
    kind: str
    text: str
    opaque: bool
    effects: tuple[Effect, ...] = ()
    table: str | None = field(default=None, compare=False)
    hides: bool = field(default=False, compare=False)
    loosens: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.migration}: {self.text}"

    @property
    def changes(self) -> tuple[Effect, ...]:
        """The effects on the database: without what the models' state alone says."""
        return tuple(one for one in self.effects if self.opaque or not one.claimed)


@dataclass(frozen=True)
class StateTable:
    """A model's table, or a many-to-many table (`model` is `app.model.field` then)."""

    model: str
    columns: dict[str, StateColumn]


@dataclass(frozen=True)
class Operations:
    """All operations of some migrations in their order; the models' tables before the first and after the last.

    `apps` are by migration the apps whose migrations it stands on, through others too, its own among them.
    `generic`: of the new release's generic foreign keys, by table, the columns of content type and of key. `caches` are
    the tables in which it keeps caches.
    """

    migrations: tuple[str, ...]
    operations: tuple[Operation, ...]
    before: dict[str, StateTable]
    after: dict[str, StateTable]
    apps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    generic: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    caches: tuple[str, ...] = ()

    def related(self, one: str, other: str) -> bool:
        """Whether a migration may know the models of another one's app. Of those that nobody asked about it is yes."""
        apps = one.partition(".")[0], other.partition(".")[0]
        if one not in self.apps or other not in self.apps:
            return True
        return apps[0] in self.apps[other] or apps[1] in self.apps[one]

    def as_json(self) -> dict[str, Any]:
        """For the ledger: after `migrate` the project would call none of them pending."""
        return {
            **asdict(self),
            "migrations": list(self.migrations),
            "operations": [
                {**asdict(one), "effects": [asdict(effect) for effect in one.effects]} for one in self.operations
            ],
            "apps": {label: list(apps) for label, apps in self.apps.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Operations:
        """Back from the ledger."""
        return cls(
            tuple(data["migrations"]),
            tuple(
                Operation(**{**one, "effects": tuple(_effect(effect) for effect in one["effects"])})
                for one in data["operations"]
            ),
            _tables(data["before"]),
            _tables(data["after"]),
            {label: tuple(apps) for label, apps in data.get("apps", {}).items()},
            {table: tuple((kind, key) for kind, key in pairs) for table, pairs in data.get("generic", {}).items()},
            tuple(data.get("caches", ())),
        )


NONE = Operations((), (), {}, {})


def read_operations(
    manage: Manage,
    migrations: Sequence[str] | None = None,
    *,
    database: str = "default",
    timeout: float | None = MIGRATIONS_SECONDS,
    cancelled: Callable[[], bool] | None = None,
) -> Operations:
    """Ask the new release what its migrations do. Nothing is changed.

    Args:
        migrations: their labels, `app.0002_name`; None means those that are pending now.

    Raises:
        CommandFailed: the project cannot be started, or its database does not answer.
    """
    parameters = {"database": database, "migrations": None if migrations is None else list(migrations)}
    return operations(ask(manage, "operations", parameters, timeout=timeout, cancelled=cancelled))


def operations(answer: dict[str, Any]) -> Operations:
    """Read the script's answer. Pure."""
    return Operations.from_json(
        {
            "migrations": [f"{one['app']}.{one['name']}" for one in answer["migrations"]],
            "operations": [operation for one in answer["migrations"] for operation in one["operations"]],
            "before": answer["before"],
            "after": answer["after"],
            "apps": {f"{one['app']}.{one['name']}": one["apps"] for one in answer["migrations"]},
            "generic": answer.get("generic", {}),
            "caches": answer.get("caches", []),
        }
    )


def _effect(data: dict[str, Any]) -> Effect:
    declared = {name: None if data.get(name) is None else StateColumn(**data[name]) for name in ("was", "becomes")}
    return Effect(**{**data, **declared})


def _tables(data: dict[str, Any]) -> dict[str, StateTable]:
    return {
        name: StateTable(table["model"], {column: StateColumn(**values) for column, values in table["columns"].items()})
        for name, table in data.items()
    }
