"""Whose rows a column's values name, in either schema: a key that fits may still be that of another table. Pure.

A constraint says it exactly; where there is none (`db_constraint = False`), the models do, of the table alone. A key of
a parent that is itself a key leads on: a child's row of Django's multi-table inheritance has its parent's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safepoint.django.operations import StateTable
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.courses import placed

End = tuple[str, str]
"""A table, `schema.table`, and its column."""


@dataclass(frozen=True)
class Leads:
    """Where a column leads: `first` are the tables it names, `ends` all columns behind it; `exact` by constraints."""

    first: frozenset[str] = frozenset()
    ends: frozenset[End] = frozenset()
    exact: bool = True

    def meet(self, other: Leads) -> bool:
        """Whether a value names a row of the same table, as far as both know. Both must be of one schema."""
        if self.exact and other.exact:
            return not self.ends.isdisjoint(other.ends)
        return not {table for table, _ in self.ends}.isdisjoint(table for table, _ in other.ends)


class Keys:
    """The keys of one schema, by its catalogue and by its models."""

    def __init__(self, catalogue: Catalogue, states: Mapping[str, StateTable], home: str) -> None:
        """`home` is the schema of models' tables that name none."""
        places = {".".join(placed(name, home)): state for name, state in states.items()}
        self.catalogue = catalogue
        self.states = {name: state for name, state in places.items() if name in catalogue.tables}
        self.models = {state.model: name for name, state in self.states.items()}

    def leads(self, table: Table, column: str) -> Leads:
        """Where this column leads."""
        first = _parents(table, column)
        exact = bool(first)
        if not first:
            first = self._stated(table, column)
        ends, more = set[End](), list(first)
        while more:
            end = more.pop()
            if end not in ends:
                ends.add(end)
                more += _parents(self.catalogue.tables[end[0]], end[1])
        return Leads(frozenset(name for name, _ in first), frozenset(ends), exact)

    def _stated(self, table: Table, column: str) -> list[End]:
        """The key of the model's table that the models say it leads to."""
        state = self.states.get(table.name)
        known = state.columns.get(column) if state is not None else None
        parent = self.models.get(known.references) if known is not None and known.references is not None else None
        return [] if parent is None else [(parent, key) for key in self.catalogue.tables[parent].primary_key]


def _parents(table: Table, column: str) -> list[End]:
    keys = (*table.foreign_keys, *table.partial_keys)
    return [(key.parent, key.parent_columns[key.columns.index(column)]) for key in keys if column in key.columns]
