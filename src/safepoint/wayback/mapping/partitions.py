"""Partitions that a table had at the safe point and has no longer: dropped, detached or renamed after the launch. Pure.

Old partitions go by a nightly job. What was written to them before is the table's, and the twin has a place for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.mapping import WayBack


def former(mapping: WayBack, old: Catalogue, new: Catalogue) -> Mapping[str, str]:
    """By the name of each such partition the new table whose rows it had.

    One that the launch itself has made a table of its own is not among them: it has a rule, or goes to the stash.
    """
    parted = [
        (rule.new, old.tables[rule.old].leaves)
        for rule in mapping.tables
        if rule.old in old.tables and rule.new in new.tables and new.tables[rule.new].partitioned
    ]
    return {
        leaf: table
        for table, leaves in parted
        for leaf in leaves
        if new.roots.get(leaf, leaf) == leaf and leaf not in mapping.feeds and leaf not in mapping.stash
    }
