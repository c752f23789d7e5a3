"""References that no constraint holds, as far as models know of them: `db_constraint = False`, generic keys. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from safepoint.django.operations import Operations
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import CONTENT_TYPES
from safepoint.wayback.mapping.leads import Keys
from safepoint.wayback.mapping.mapping import Loose, TableRule


def loose_references(rules: Iterable[TableRule], keys: Keys, new: Catalogue, operations: Operations) -> Iterator[Loose]:
    """Those of the old schema whose tables and columns have a successor. `keys`: of the old schema."""
    for rule in rules:
        old = keys.catalogue.tables[rule.old]
        for column in rule.columns:
            leads = keys.leads(old, column.column)
            if leads.first and not leads.exact and column.home is None:
                yield Loose(rule.old, column.column, sorted(leads.first)[0])
        olds = {column.new: column for column in rule.columns if column.new is not None}
        for kind, number in new.of_django(operations.generic, new.tables[rule.new]) or ():
            if kind in olds and number in olds and olds[kind].home is not None:
                yield Loose(rule.old, olds[number].column, None, olds[kind].column, olds[kind].home)


def references_to_made(made: Collection[str], keys: Keys, operations: Operations) -> Iterator[Loose]:
    """Those of the new schema that may name rows of tables that the migrations made. `keys`: of the new schema."""
    new = keys.catalogue
    for table in new.tables.values():
        for column in table.columns:
            leads = keys.leads(table, column.name)
            if leads.first and not leads.exact and not leads.first.isdisjoint(made):
                yield Loose(table.name, column.name, sorted(leads.first & {*made})[0])
        for kind, number in new.of_django(operations.generic, table) or ():
            types = _types(new, table, kind)
            if types is not None and kind in table.by_name and number in table.by_name:
                yield Loose(table.name, number, None, kind, types)


def _types(new: Catalogue, table: Table, kind: str) -> str | None:
    """The table of content types that a column names."""
    named = (key.parent for key in table.foreign_keys if key.columns == (kind,))
    found = new.find(CONTENT_TYPES)
    return next(named, None if found is None else found.name)


def leads_of(
    loose: Loose,
    values: Mapping[str, str | None],
    identities: Mapping[str, Mapping[str, str]],
    models: Mapping[str, str],
) -> str | None:
    """The table of the row that these values name by such a column, where it is one of these models'. Pure.

    Args:
        identities: by table of content types, what its ids name.
        models: tables by label, `app.model`.
    """
    if loose.kind is None:
        return loose.parent
    label = identities.get(str(loose.types), {}).get(values.get(loose.kind) or "")
    return None if label is None else models.get(label)


def numbers_in(catalogue: Catalogue, table: Table) -> dict[str, str]:
    """By column the table that gave out the numbers in it, as far as foreign keys say so: each column once. Pure."""
    found: dict[str, str] = {}
    for key in (one for one in table.foreign_keys if not one.period):
        parent = catalogue.tables[key.parent]
        for own, other in zip(key.columns, key.parent_columns, strict=True):
            if (other,) == parent.key:
                found[own] = numbered_by(catalogue, parent.name)
            elif own not in found:  # a part of a key that leads further, as a link's does
                further = (one.parent for one in parent.foreign_keys if one.columns == (other,) and not one.period)
                owner = next((one for one in further if len(catalogue.tables[one].key) == 1), None)
                found |= {own: numbered_by(catalogue, owner)} if owner is not None else {}
    return found


def numbered_by(catalogue: Catalogue, name: str) -> str:
    """The table that gives a row its number: of a child in Django's multi-table inheritance, its parent. Pure."""
    seen = {name}
    while (table := catalogue.tables.get(name)) is not None and len(table.key) == 1:
        above = [one.parent for one in table.foreign_keys if one.columns == table.key and one.parent not in seen]
        if not above:
            break
        name = above[0]
        seen.add(name)
    return name
