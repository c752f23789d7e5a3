"""Partitions that a table has no longer, known by their numbers, whatever they are called and wherever they are by now.

A twin that is a copy of the live database has its relations under the same numbers. One that was fed has numbers of its
own: there names tell (`partitions.renamed`), as far as they can.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.partitions import former, renamed
from safepoint.wayback.replay.renamed import names_now

_NUMBERS: Final = """
SELECT n.nspname || '.' || c.relname, c.oid::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s)
"""


def find_partitions(
    connection: Connection, source: Connection, spool: Path, mapping: WayBack, old: Catalogue, new: Catalogue
) -> tuple[Mapping[str, str], Mapping[int, str]]:
    """By name, and by the name that it has now, the new table that each of them is of (`partitions.former`); and by
    number its name at the safe point, of those whose number is known.

    Args:
        connection: to the twin.
        source: to the migrated database.
    """
    went = former(mapping, old, new)
    if not went:
        return {}, {}
    there = names_now(source, spool)
    numbers = _numbers(connection, mapping, new, went, there)
    now = {
        ".".join(there[number]): went[leaf]
        for number, leaf in numbers.items()
        if number in there and new.roots.get(".".join(there[number])) != went[leaf]
    }
    others = {leaf: table for leaf, table in went.items() if leaf not in numbers.values()}
    return {**went, **renamed(mapping, new, others, lambda: there), **now}, numbers


def left_over(
    partitions: Mapping[str, str], numbers: Mapping[int, str], there: Mapping[int, tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """By table those of which nobody knows by what name, if any, they are there still. Pure."""
    known = {*numbers.values(), *map(".".join, there.values())}
    return {
        table: tuple(sorted(leaf for leaf, one in partitions.items() if one == table and leaf not in known))
        for table in {*partitions.values()}
    }


def _numbers(
    connection: Connection,
    mapping: WayBack,
    new: Catalogue,
    went: Mapping[str, str],
    there: Mapping[int, tuple[str, str]],
) -> dict[int, str]:
    """Only of a table that has the same number in both, and of a partition whose columns are those of the table."""
    olds = {table: mapping.feeds[table].old for table in went.values()}
    rows = connection.execute(_NUMBERS, [[*went, *olds.values()]]).fetchall()
    twins = {str(name): int(number) for name, number in rows}
    found = {}
    for leaf, table in went.items():
        number, root = twins.get(leaf), twins.get(olds[table])
        if number is None or root is None or ".".join(there.get(root, ())) != table:
            continue
        own = new.tables.get(new.roots.get(".".join(there.get(number, ())), ""))
        needed = mapping.known_columns[table] & new.tables[table].by_name.keys()
        if number not in there or (own is not None and needed <= own.by_name.keys()):
            found[number] = leaf
    return found
