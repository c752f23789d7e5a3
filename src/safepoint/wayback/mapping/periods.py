"""Foreign keys whose last columns are PERIODs (PostgreSQL 18), as SQL: several parents together may cover one. Pure.

https://www.postgresql.org/docs/18/sql-createtable.html#SQL-CREATETABLE-PARMS-REFERENCES
"""

from __future__ import annotations

from collections.abc import Mapping

from safepoint.wayback.mapping.catalogue import ForeignKey
from safepoint.wayback.mapping.expressions import quote


def covered(key: ForeignKey, child: str, parents: str) -> str:
    """Whether the rows of `parents` together cover the period of the row `child`."""
    return covered_by(key, {name: f"{child}.{quote(name)}" for name in key.columns}, parents)


def covered_by(key: ForeignKey, values: Mapping[str, str], parents: str) -> str:
    """The same of values, by the key's own columns, as SQL."""
    own, other = key.columns[-1], key.parent_columns[-1]
    ranges = f"SELECT range_agg(p.{quote(other)}) FROM {parents} p WHERE {_same(key, 'p', values)}"
    return f"coalesce({values[own]} <@ ({ranges}), false)"


def overlaps(key: ForeignKey, parent: str, child: str) -> str:
    """Whether the row `child` may need the row `parent`."""
    values = {name: f"{child}.{quote(name)}" for name in key.columns}
    return f"{_same(key, parent, values)} AND {parent}.{quote(key.parent_columns[-1])} && {values[key.columns[-1]]}"


def _same(key: ForeignKey, parent: str, values: Mapping[str, str]) -> str:
    collations = key.collations or (None,) * len(key.columns)
    return " AND ".join(
        f"{parent}.{quote(other)} = {values[own]}" + ("" if collation is None else f" COLLATE {collation}")
        for other, own, collation in list(zip(key.parent_columns, key.columns, collations, strict=True))[:-1]
    )
