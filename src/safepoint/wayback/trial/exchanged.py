"""Columns and tables that somebody's SQL exchanged: the catalogue's numbers tell it where no row does.

A renamed table keeps its id, and a renamed column its number. The round trip compares values, so of an empty table, or
of columns that are equal in every row, it cannot tell which of two is which; what the operations say is believed then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.deriving import keyed
from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.mapping.mapping import TableRule, WayBack, short
from safepoint.wayback.replay.statements import ask
from safepoint.wayback.replay.work import rows_of

_NUMBERS: Final = """
SELECT n.nspname || '.' || c.relname, c.oid::int8, array_agg(a.attname::text), array_agg(a.attnum::int4)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid >= 16384 GROUP BY 1, 2
"""


@dataclass(frozen=True)
class _Numbers:
    """A table's id, and the numbers of its columns by their names."""

    table: int
    columns: Mapping[str, int]


def exchanged(
    old: Connection, migrated: Connection, mapping: WayBack, before: Catalogue, named: Collection[str] = ()
) -> tuple[str, ...]:
    """Where the mapping takes for an old column or table what was another one, and no row tells; a sentence each.

    Args:
        old: a database that the migrated one was, or was copied from: its ids are the same.
        named: the old tables that the plan names: who does has seen them.
    """
    was, now = _numbers(old), _numbers(migrated)
    found: list[str] = []
    for rule in mapping.tables:
        if rule.old not in was or rule.new not in now:
            continue
        if was[rule.old].table == now[rule.new].table:
            found += _columns(old, rule, was[rule.old].columns, now[rule.new].columns, before)
        elif rule.old not in named:
            found += _tables(old, rule, was, now[rule.new].table, before)
    return tuple(found)


def _numbers(connection: Connection) -> dict[str, _Numbers]:
    rows = connection.execute(_NUMBERS.encode()).fetchall()
    return {name: _Numbers(oid, dict(zip(names, numbers, strict=True))) for name, oid, names, numbers in rows}


def _columns(
    old: Connection, rule: TableRule, was: Mapping[str, int], now: Mapping[str, int], before: Catalogue
) -> Iterator[str]:
    names = {number: name for name, number in was.items()}
    for column in rule.columns:
        if column.kind == "mapped" or column.new is None or column.new not in now:
            continue
        other = names.get(now[column.new], column.column)
        if other != column.column and not _told_apart(old, before, rule.old, column.column, other):
            yield (
                f"{short(rule.old)}.{column.column} needs a mapper: by the catalogue {column.new} is what {other} was, "
                "which no operation says, and no row tells the two apart."
            )


def _told_apart(old: Connection, before: Catalogue, name: str, column: str, other: str) -> bool:
    """Whether a row has other values in the two: then the round trip compared them."""
    differs = f"{quote(column)}::text IS DISTINCT FROM {quote(other)}::text"
    return bool(ask(old, f"SELECT EXISTS (SELECT FROM {rows_of(before.tables[name])} WHERE {differs})")[0][0])


def _tables(
    old: Connection, rule: TableRule, was: Mapping[str, _Numbers], table: int, before: Catalogue
) -> Iterator[str]:
    other = next((name for name, numbers in was.items() if numbers.table == table), None)
    if other is not None and not ask(old, f"SELECT EXISTS (SELECT FROM {rows_of(before.tables[rule.old])})")[0][0]:
        yield (
            f"{short(rule.old)}: by the catalogue {short(rule.new)} is what {short(other)} was, which no operation "
            "says, and there is no row that would tell. Where it is right so, put "
            f"[wayback.tables.{keyed(rule.old)}] into the plan."
        )
