"""Which rows of the twin a TRUNCATE took that named a partition which the twin has by another name, or has not.

Where nobody knows which partition of the twin it was, nothing is emptied, and that is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.staged import Truncation
from safepoint.wayback.replay.work import Work, oid_of

# What a partition of the same table is for names it, whatever it is called.
_PARTITIONS: Final = """
SELECT c.oid::int8, n.nspname || '.' || c.relname, s.nspname || '.' || p.relname, pg_get_expr(c.relpartbound, c.oid),
       pg_get_partition_constraintdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits i ON i.inhrelid = c.oid
JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace s ON s.oid = p.relnamespace
WHERE c.relispartition AND (c.oid = ANY(%s) OR n.nspname || '.' || c.relname = ANY(%s))
"""
_BY_HASH: Final = "satisfies_hash_partition"  # it names a table of the migrated database


def find_emptied(
    connection: Connection,
    source: Connection,
    mapping: WayBack,
    old: Catalogue,
    left: Mapping[str, Sequence[str]],
    truncations: Sequence[Truncation],
) -> tuple[list[Truncation], list[Truncation]]:
    """The same, with what is known of such partitions; and, in place of some, those of which nobody knows which they
    were.

    Args:
        left: by table its partitions of the safe point that nobody knows any more (`by_number.left_over`).
    """
    olds = {rule.new: rule.old for rule in mapping.tables if rule.old in old.tables}
    others = [
        one
        for one in truncations
        if one.table in olds and one.leaf != one.table and one.leaf not in old.tables[olds[one.table]].leaves
    ]
    if not others:
        return list(truncations), []
    leaves = sorted({leaf for one in others for leaf in old.tables[olds[one.table]].leaves})
    twins = {(row[2], row[3]): row[1] for row in connection.execute(_PARTITIONS, [[], leaves]).fetchall()}
    oids = [one.relation for one in others]
    lives = {row[0]: row[2:] for row in source.execute(_PARTITIONS, [oids, []]).fetchall()}
    found, unknown = list[Truncation](), list[Truncation]()
    for one in truncations:
        live = lives.get(one.relation)
        if one not in others or live is not None:
            found.append(_known(one, olds, twins, live) if one in others else one)
        elif len(gone := left.get(one.table, ())) == 1:
            found.append(replace(one, twin=gone[0]))
        elif gone:
            unknown.append(one)
        else:  # made since, and gone again: the twin never had it
            found.append(one)
    return found, unknown


def _known(
    one: Truncation, olds: dict[str, str], twins: dict[tuple[str, str], str], live: tuple[str, str, str] | None
) -> Truncation:
    if live is None:
        return one
    parent, bound, rule = live
    twin = twins.get((olds.get(parent, parent), bound))
    return replace(one, twin=twin, bounds=None if twin is not None or _BY_HASH in rule else rule)


def took(one: Truncation, work: Work, row: str = "") -> str:
    """Whether a row of the twin was among them, as SQL. `row`: what stands for it, with a dot."""
    if one.leaf == work.new.name:
        return "true"
    if one.bounds is None:
        return f"coalesce({row}tableoid = {oid_of(one.twin or one.leaf)}, false)"
    columns = ", ".join(
        f"{row}{quote(rule.column)} AS {quote(rule.new)}"
        for rule in work.rule.columns
        if rule.new is not None and rule.new in work.new.parted_by
    )
    return f"coalesce((SELECT {one.bounds} FROM (SELECT {columns}) partitioned), false)"
