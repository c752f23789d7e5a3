"""What a mapped table got after the launch: columns, which the old schema has no place for, and keys. Pure.

A release that mends something brings a column: it is stashed, and everything else is as it was proven to be. Or it
takes one away again that the old schema never had.
"""

from __future__ import annotations

from dataclasses import replace

from safepoint.errors import Refused
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import mentions
from safepoint.wayback.mapping.mapping import TableRule, WayBack


def with_since(mapping: WayBack, new: Catalogue) -> WayBack:
    """The way back with what has come since among the columns that it stashes, and without what is gone of these."""
    return replace(mapping, tables=tuple(_with_since(rule, new) for rule in mapping.tables))


def as_named(mapping: WayBack, new: Catalogue) -> Catalogue:
    """The migrated database's tables, of which each row is named as it was when the capture began.

    Who gives a table a key after the launch has made its rows fit first: until then several may have had the same.

    Raises:
        Refused: what named rows of a table does not name one any more.
    """
    others = {
        rule.new: _as_named(new.tables[rule.new], tuple(name for _, name in rule.key))
        for rule in mapping.tables
        if rule.new in new.tables and new.tables[rule.new].key != tuple(name for _, name in rule.key)
    }
    return replace(new, tables={**new.tables, **others}) if others else new


def _as_named(table: Table, key: tuple[str, ...]) -> Table:
    if not key:
        return replace(table, primary_key=(), uniques=(), replica=())
    whole = any(one.plain and one.immediate and set(one.columns) == set(key) for one in table.uniques)
    if whole and all(table.by_name[name].not_null for name in key):
        return replace(table, replica=key)
    raise Refused(
        f"Rows of {table.name} are not named any more by what named them when the capture began.",
        subject=table.name,
        expected=", ".join(key),
        found=", ".join(table.key) or "no key",
        remedy="Someone changed its keys after the launch. Bring the former one back, or roll back with --discard.",
    )


def _with_since(rule: TableRule, new: Catalogue) -> TableRule:
    table = new.tables.get(rule.new)
    if table is None:
        return rule
    known = {*rule.kept, *(column.new for column in rule.columns)}
    mapped = [column.expression or "" for column in rule.columns if column.kind == "mapped"]
    more = [one.name for one in table.written if one.name not in known]
    more = [name for name in more if not any(mentions(expression, name) for expression in mapped)]
    return replace(rule, stash=(*(name for name in rule.stash if name in table.by_name), *more))
