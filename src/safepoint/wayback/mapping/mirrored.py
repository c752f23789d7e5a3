"""Which rules of the old schema the new one holds too, over values that are taken over as they are. Pure.

Rows that were valid in the migrated database keep such a rule by themselves, unless something that belongs to it was
put aside. So it is not asked of each row before anything is written: a replay that closes the site has no time for what
must be so. What does not hold all the same is found when the rows are written, and then everything is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.wayback.mapping.catalogue import ForeignKey, Table, Unique
from safepoint.wayback.mapping.mapping import TableRule


def unique_held(rule: TableRule, new: Table, unique: Unique) -> bool:
    """Whether the new table has the same unique key, and PostgreSQL refuses rows that break the old one.

    Of a deferrable key the index takes them, and the trigger that looks again is silent in a replay.
    """
    columns = _taken_over(rule, unique.columns)
    return (
        unique.plain
        and unique.immediate
        and columns is not None
        and any(
            one.plain and set(one.columns) == set(columns) and (one.nulls_equal or not unique.nulls_equal)
            for one in new.uniques
        )
    )


def reference_held(rules: Mapping[str, TableRule], rule: TableRule, new: Table, key: ForeignKey) -> bool:
    """Whether the new table has the same foreign key, to the table that feeds the old parent.

    Args:
        rules: by old table.
    """
    parent = rules.get(key.parent)
    if parent is None:
        return False
    columns, parents = _taken_over(rule, key.columns), _taken_over(parent, key.parent_columns)
    if columns is None or parents is None:
        return False
    pairs = set(zip(columns, parents, strict=True))
    return any(
        one.parent == parent.new
        and one.period <= key.period
        and set(zip(one.columns, one.parent_columns, strict=True)) == pairs
        for one in new.foreign_keys
    )


def _taken_over(rule: TableRule, columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """The new columns that these old ones have their values from unchanged; None where one has not."""
    sources = {one.column: one.new for one in rule.columns if one.kind in ("same", "renamed")}
    found = tuple(sources.get(name) for name in columns)
    return None if None in found else tuple(str(name) for name in found)
