"""Columns that a mapped table got after the launch: the old schema has no place for them, so they are stashed. Pure.

A release that mends something brings one, and everything else is as it was proven to be.
"""

from __future__ import annotations

from dataclasses import replace

from safepoint.wayback.catalogue import Catalogue
from safepoint.wayback.expressions import mentions
from safepoint.wayback.mapping import TableRule, WayBack


def with_since(mapping: WayBack, new: Catalogue) -> WayBack:
    """The way back with what has come since among the columns that it stashes."""
    return replace(mapping, tables=tuple(_with_since(rule, new) for rule in mapping.tables))


def _with_since(rule: TableRule, new: Catalogue) -> TableRule:
    table = new.tables.get(rule.new)
    if table is None:
        return rule
    known = {*rule.kept, *(column.new for column in rule.columns)}
    mapped = [column.expression or "" for column in rule.columns if column.kind == "mapped"]
    more = [one.name for one in table.written if one.name not in known]
    more = [name for name in more if not any(mentions(expression, name) for expression in mapped)]
    return replace(rule, stash=(*rule.stash, *more)) if more else rule
