"""References that no constraint holds, as far as models know of them: `db_constraint = False`, generic keys. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from safepoint.django.operations import Operations
from safepoint.wayback.mapping.catalogue import Catalogue
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
