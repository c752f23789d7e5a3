"""Stashed new rows whose number another row has by now, which the next launch's migration made.

Numbers that a sequence gives out say nothing of a row: without an equal unique value beside it, two rows of one number
are two rows. The migration's stays, the stashed one is told, and so is what refers to that one.

`pg_temp.sp_stash` holds what is to be attached, `pg_temp.sp_taken` the values of such rows: see `attaching`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from safepoint.wayback.mapping.catalogue import ForeignKey, Table
from safepoint.wayback.mapping.expressions import literal, quote, written

TAKEN: Final = "the migration has given its number to another row"
UNFOUND: Final = "the migration has made no row like the one that it was, or several"
MOMENTS: Final = frozenset({"date", "timestamp without time zone", "timestamp with time zone"})
_COUNTS: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
UNKNOWN: Final = "nobody knows which"
"""What a row of the migration's names, where that is not found: no number, so that no other row is taken for it."""


def numbered(table: Table, key: Sequence[str]) -> bool:
    """Whether a sequence alone says what key a row gets. Pure."""
    if len(key) != 1 or any(key[0] in one.columns for one in table.foreign_keys):
        return False
    column = table.by_name[key[0]]
    return column.identity or column.sequence is not None


def given_out(table: Table, key: Sequence[str]) -> bool:
    """Whether its key says nothing of a row: a sequence's number, or a UUID. Pure."""
    if len(key) == 1 and table.by_name[key[0]].base == "uuid":
        return not any(key[0] in one.columns for one in table.foreign_keys)
    return numbered(table, key)


def counts_places(table: Table, key: Sequence[str]) -> bool:
    """Whether a key counts places (the third line of an order): another row has it where one before it goes. Pure."""
    named = {name for one in table.foreign_keys for name in one.columns}
    free = (table.by_name[name] for name in key if name not in named)
    return len(key) > 1 and any(one.base in _COUNTS and not one.identity and one.sequence is None for one in free)


def alike(table: Table, key: Sequence[str]) -> str:
    """Whether a row `t` and the stashed one `s` are the same by what only one may have, beside their number. Pure."""
    same = (
        " AND ".join(f"{written(f't.{quote(name)}')} = s.vals ->> {literal(name)}" for name in columns)
        for columns in others(table, key)
    )
    return " OR ".join(f"coalesce({one}, false)" for one in same) or "false"


def like_one(table: Table, key: Sequence[str]) -> str:
    """The same of a row `t` of any number and the stashed one `m`, so that an index finds it; empty where nothing but
    its number is a row's own. Pure."""
    return " OR ".join(
        " AND ".join(f"t.{quote(name)} = (m.vals ->> {literal(name)})::{table.by_name[name].type}" for name in columns)
        for columns in others(table, key)
    )


def like_lines(table: Table, key: Sequence[str]) -> list[str]:
    """The same of two stashed ones, `m` and `o`: a condition for each of what only one may have. Pure."""
    return [
        " AND ".join(f"o.vals ->> {literal(name)} = m.vals ->> {literal(name)}" for name in columns)
        for columns in others(table, key)
    ]


def others(table: Table, key: Sequence[str]) -> list[tuple[str, ...]]:
    """What only one row may have, beside its number. Pure."""
    return [one.columns for one in table.uniques if one.plain and {*one.columns} != {*key}]


def refers_to_taken(key: ForeignKey, parent: Table, values: Mapping[str, str]) -> str:
    """Whether a foreign key's value, by its own columns as SQL, is meant for such a row. Pure."""
    same = " AND ".join(
        f"(x.vals ->> {literal(other)})::{parent.by_name[other].type} = {values[own]}"
        for own, other in zip(key.columns, key.parent_columns, strict=True)
    )
    return f"EXISTS (SELECT FROM pg_temp.sp_taken x WHERE x.relation = {literal(parent.name)} AND {same})"


def unfound(parent: Table) -> str:
    """Why a row that refers to one that is not known again does not come back. Pure."""
    return f"the migration has made no row of {parent.relation} like the one that it refers to, or several"


def lost_to(parent: Table) -> str:
    """Why a row that refers to such a row does not come back. Pure."""
    return f"the row of {parent.relation} that it refers to does not come back"
