"""Partitions that a table had at the safe point and has no longer, since the launch. Pure.

Old ones go by a nightly job: they are dropped, detached, renamed, or given to another table. What was written to them
before is the table's, and the twin has a place for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.mapping import WayBack


def former(mapping: WayBack, old: Catalogue, new: Catalogue) -> Mapping[str, str]:
    """By the name of each such partition the new table whose rows it had.

    One that the launch itself has made a table of its own is not among them: it has a rule, or goes to the stash. Nor
    is one that another table has now whose columns are others.
    """
    parted = [
        (rule.new, old.tables[rule.old].leaves)
        for rule in mapping.tables
        if rule.old in old.tables and rule.new in new.tables and new.tables[rule.new].partitioned
    ]
    found = {}
    for table, leaves in parted:
        needed = mapping.known_columns[table] & new.tables[table].by_name.keys()
        for leaf in leaves:
            now = new.roots.get(leaf, leaf)
            like = now == leaf or needed <= new.tables[now].by_name.keys()
            if now != table and like and leaf not in mapping.feeds and leaf not in mapping.stash:
                found[leaf] = table
    return found


def renamed(
    mapping: WayBack, new: Catalogue, partitions: Mapping[str, str], there: Callable[[], Mapping[int, tuple[str, str]]]
) -> Mapping[str, str]:
    """Those of them that got another name before they became tables of their own, by that name: where the table can be
    only one.

    Args:
        partitions: as `former` gives them.
        there: what gives the relations that there were when the capture began, with schema and name of now.
    """
    gone = {table for leaf, table in partitions.items() if leaf not in new.roots}
    known = {*mapping.feeds, *mapping.stash, *mapping.kept}
    found = {}
    for name in map(".".join, there().values() if gone else ()):
        own = new.tables.get(name)
        if own is not None and name not in known and not own.partitioned:
            alike = [one for one in gone if _is_like(own, new.tables[one], mapping.known_columns[one])]
            if len(alike) == 1:
                found[name] = alike[0]
    return found


def with_apart(new: Catalogue, partitions: Mapping[str, str], mapping: WayBack) -> Catalogue:
    """The catalogue with what has their rows now (`Table.apart`): of what is dropped nothing has them.

    Args:
        partitions: as `former` gives them.
        mapping: as it was proven: columns that have come since a partition need not have.
    """
    apart = defaultdict[str, list[Table]](list)
    needed = mapping.known_columns
    for leaf, name in partitions.items():
        own, table = new.tables.get(new.roots.get(leaf, "")), new.tables[name]
        if own is not None and table.key and (own.name != leaf or not own.partitioned):
            schema, _, relation = leaf.partition(".")
            own = replace(own, schema=schema, relation=relation, partitioned=False)
            if _is_like(own, table, needed[name]):
                apart[name].append(own)
    tables = {name: replace(new.tables[name], apart=tuple(leaves)) for name, leaves in apart.items()}
    return replace(new, tables={**new.tables, **tables}) if tables else new


def _is_like(leaf: Table, table: Table, needed: Collection[str]) -> bool:
    """Whether its rows can stand for the table's: each column is of the same type, or came since."""
    for column in table.columns:
        own = leaf.by_name.get(column.name)
        if own.type != column.type if own is not None else column.name in needed:
            return False
    return True
