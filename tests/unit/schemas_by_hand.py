"""Catalogues and operations written by hand, as few words as it takes."""

from __future__ import annotations

from dataclasses import replace

from safepoint.django.operations import Effect, Operation, Operations, StateTable, What
from safepoint.wayback.mapping.catalogue import Catalogue, Column, ForeignKey, Table, Unique
from safepoint.wayback.mapping.mapping import ColumnRule, WayBack

CASTS = frozenset({("bigint", "integer"), ("integer", "bigint"), ("numeric", "numeric"), ("boolean", "integer")})
DATA = Operation("shop.0002_next", "RunPython", "Raw Python operation", True)


def column(name: str, kind: str = "integer", **words: object) -> Column:
    base = kind.partition("(")[0]
    return Column(name, kind, base, **{"not_null": False, **words})  # type: ignore[arg-type]


def table(name: str, *columns: Column, key: tuple[str, ...] = ("id",), keys: tuple[ForeignKey, ...] = ()) -> Table:
    uniques = (Unique(f"{name}_pkey", key, key),) if key else ()
    made = tuple(Column(c.name, c.type, c.base, c.not_null or c.name in key, c.default) for c in columns)
    return Table("public", name, made, key, uniques, foreign_keys=keys)


def catalogue(*tables: Table) -> Catalogue:
    return Catalogue({one.name: one for one in tables}, CASTS)


def effect(
    what: What, before: str, after: str | None = None, name: str | None = None, now: str | None = None
) -> Operation:
    one = Effect(what, f"shop.{before}", before, after or before, name, now)
    return Operation("shop.0002_next", what, f"{what} {name or before}", False, (one,))


def claimed(one: Operation) -> Operation:
    """The same as the models' state says it of SQL."""
    return replace(one, opaque=True, effects=tuple(replace(each, claimed=True) for each in one.effects))


def operations(*found: Operation, before: dict[str, StateTable] | None = None) -> Operations:
    return Operations(("shop.0002_next",), found, before or {}, {})


def rule_of(mapping: WayBack, name: str) -> ColumnRule:
    (found,) = [rule for one in mapping.tables for rule in one.columns if rule.column == name]
    return found
