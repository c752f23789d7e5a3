"""How a row of the new schema becomes a row of the old one, table by table and column by column. Pure.

Every line says where it comes from, so that a person can check the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal

from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import CONTENT_TYPES, PERMISSIONS

Kind = Literal["same", "renamed", "retyped", "remapped", "restored", "mapped", "generated", "none"]
Mappers = Mapping[str, Mapping[str, str]]
"""The plan's own expressions: old table -> old column -> SQL over the new row."""

SAME: Final = "same in both catalogues"
# What Django itself keeps: the old release has its own, and a launch must not mix the two.
NOT_CARRIED: Final = {
    "django_migrations": "the old database keeps its own record of migrations",
    CONTENT_TYPES: "content types are matched by their natural key",
    PERMISSIONS: "permissions are matched by their natural key",
}


@dataclass(frozen=True)
class ColumnRule:
    """One old column: its value as SQL over `new` and `old`, and where that comes from.

    `new` is the column it is taken from. `doubt` says why a person has to decide before anything is carried. `home`: of
    a remapped one the old table whose ids it has; each tenant's schema may have one of its own. `type`: the old one of
    a mapped one.
    """

    column: str
    kind: Kind
    expression: str | None
    source: str
    new: str | None = None
    doubt: str | None = None
    home: str | None = None
    type: str | None = None


@dataclass(frozen=True)
class TableRule:
    """One old table: the new table that feeds it, by which columns rows are matched, and a rule for each column.

    `key` has pairs (old column, new column); empty means that whole rows are matched. `stash` are the new table's
    columns that have no home in the old one; `read` are those that the plan's mappers make old values of, which may say
    less than they do.
    """

    old: str
    new: str
    source: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[ColumnRule, ...]
    stash: tuple[str, ...] = ()
    read: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns whose values are kept for the next launch."""
        return (*self.stash, *self.read)

    @property
    def is_identity(self) -> bool:
        """Whether every row is taken as it is: the migrations in between have not touched this table."""
        plain = all(rule.kind in ("same", "generated") for rule in self.columns)
        return plain and self.old == self.new and self.source == SAME and not self.kept

    @property
    def uses_twin(self) -> bool:
        """Whether any value depends on the twin's own row."""
        return any("old." in (rule.expression or "") for rule in self.columns)


@dataclass(frozen=True)
class Loose:
    """A column of an old table whose values name rows of another one, by its key: of `parent`, or, where a column
    beside it says what it is (`kind`, an id of `types`), of that model's table."""

    table: str
    column: str
    parent: str | None = None
    kind: str | None = None
    types: str | None = None


@dataclass(frozen=True)
class Line:
    """One line of the printed table. `column` is `*` where it is about the whole table."""

    table: str
    column: str
    kind: str
    value: str
    source: str
    doubt: str = ""

    @property
    def plain(self) -> bool:
        """Whether migrations have not touched it, and nothing speaks against it."""
        return (
            self.kind in ("same", "generated") and not self.doubt and (self.kind == "generated" or self.source == SAME)
        )


@dataclass(frozen=True)
class WayBack:
    """The whole way back. `stash`: new tables without a home; `kept`: old tables that nothing feeds any more, and why.

    `models` are renamed models, and those that went to another app with their table, new label -> old label, for
    content types. `problems` must be empty before a rollback may carry rows; `notes` are for a person to read. `loose`
    are references that no constraint holds, `labels` the old tables of models, `app.model`; `to_made` are those of the
    new schema that may name rows of new tables, `made` these tables of models.
    """

    tables: tuple[TableRule, ...]
    stash: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loose: tuple[Loose, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    to_made: tuple[Loose, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def feeds(self) -> Mapping[str, TableRule]:
        """The rules by the new table that they read."""
        return {rule.new: rule for rule in self.tables}

    @property
    def known_columns(self) -> dict[str, frozenset[str]]:
        """By new table the columns that rules are about; none of a table that the old schema does not have."""
        ruled = {
            rule.new: frozenset([*rule.kept, *(one.new for one in rule.columns if one.new)]) for rule in self.tables
        }
        return {**dict.fromkeys(self.stash, frozenset[str]()), **ruled}

    def lines(self) -> tuple[Line, ...]:
        """The table that a person checks. A table that has another name now begins with a line of its own (`*`)."""
        found = []
        for rule in self.tables:
            if rule.old != rule.new or rule.source != SAME:
                found.append(Line(short(rule.old), "*", "renamed", short(rule.new), rule.source))
            for column in rule.columns:
                words = (column.kind, column.expression or "", column.source, column.doubt or "")
                found.append(Line(short(rule.old), column.column, *words))
            found += [Line(short(rule.new), name, "stashed", "", "no home in the old table") for name in rule.stash]
            found += [
                Line(short(rule.new), name, "stashed", "", "a mapper may give a part of it") for name in rule.read
            ]
        found += [Line(short(name), "*", "stashed", "", source) for name, source in self.stash.items()]
        found += [Line(short(name), "*", "kept", "", source) for name, source in self.kept.items()]
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """For the ledger and the report."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WayBack:
        """Back from the ledger."""
        tables = tuple(
            TableRule(
                **{
                    **rule,
                    "key": tuple((old, new) for old, new in rule["key"]),
                    "columns": tuple(ColumnRule(**column) for column in rule["columns"]),
                    "stash": tuple(rule["stash"]),
                    "read": tuple(rule.get("read", ())),
                }
            )
            for rule in data["tables"]
        )
        loose = {name: tuple(Loose(**one) for one in data.get(name, ())) for name in ("loose", "to_made")}
        words = {name: tuple(data[name]) for name in ("problems", "notes")}
        return cls(**{**data, **words, **loose, "tables": tables})


def changed_rules(proven: WayBack, now: WayBack) -> tuple[str, ...]:
    """The old tables about which the way back would decide otherwise now than it was proven to. Pure.

    A table or a column that was made since is no rule's business: what is written to it goes to the stash, and the rest
    is carried. Nor is a column that is gone, of which the old schema knows nothing, or a table that is gone: whether
    rows of it were captured, which have no rule any more, a replay tells.
    """
    there = {*now.feeds, *now.stash}
    gone = {rule.old for rule in proven.tables if rule.new not in there} & now.kept.keys()
    before, after = _decisions(proven), _decisions(now)
    found = [name for name in sorted({*before, *after} - gone) if _others(before.get(name), after.get(name))]
    return (*found, *(["renamed models"] if proven.models != now.models else []))


def untouched_as_now(proven: WayBack, now: WayBack, old: Catalogue) -> WayBack:
    """The proven mapping, with the tables that the migrations left alone as they are now. Pure.

    Such a table may have come, gone or changed between the proof and the safe point: it is the same on both sides, and
    of its rows there is nothing to prove. What names its rows is what does in the twin, `old`, as well: a key that came
    after the safe point does not.
    """
    alone = {rule.old: _named_in(rule, old.tables[rule.old]) for rule in now.tables if rule.is_identity}
    claimed = {*_decisions(proven), *proven.feeds, *proven.stash}
    there = {*_decisions(now), *now.feeds, *now.stash}
    kept = [
        alone.get(rule.old, rule) if rule.is_identity else rule
        for rule in proven.tables
        if rule.old in there or not rule.is_identity
    ]
    return replace(proven, tables=(*kept, *(rule for name, rule in alone.items() if name not in claimed)))


def _named_in(rule: TableRule, old: Table) -> TableRule:
    names = {name for name, _ in rule.key}
    return rule if any(one.plain and set(one.columns) <= names for one in old.uniques) else replace(rule, key=())


def _others(was: TableRule | None, now: TableRule | None) -> bool:
    """Whether two rules differ in more than what is stashed of a row, and a key where there was none."""
    if was is None or now is None:
        return was != now
    now = now if was.key else replace(now, key=())
    return replace(now, stash=was.stash) != was


def _decisions(way: WayBack) -> dict[str, TableRule | None]:
    """By old table: its rule, None where it is kept as it is."""
    return {**dict.fromkeys(way.kept), **{rule.old: rule for rule in way.tables}}


def short(name: str) -> str:
    """A table's name as people write it."""
    return name.removeprefix("public.")
