"""Whether what a mapper reads can be had again from what it makes, so that nothing of it need be kept.

Known of one number that is given to one old column or, by its sign, to one of two (cents as a decimal, a debit or a
credit): then it is a sum of these, each times a factor. Whether that is so is asked of each row.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.expressions import mentions, quote
from safepoint.wayback.replay.compaction import projection
from safepoint.wayback.replay.statements import REFUSED
from safepoint.wayback.replay.work import Work

_NUMBERS: Final = frozenset({"smallint", "integer", "bigint", "numeric"})
_PROBE: Final = 10_000


def recovered(connection: Connection, work: Work) -> str:
    """Whether the staged row `s` has nothing that the row `o` in the old shape does not say, as SQL."""
    if len(work.rule.read) != 1:
        return "false"
    (read,) = work.rule.read
    mapped = [rule for rule in work.rule.columns if rule.kind == "mapped" and mentions(rule.expression or "", read)]
    made = [work.old.by_name[rule.column] for rule in mapped]
    if {work.new.by_name[read].base, *(one.base for one in made)} - _NUMBERS:
        return "false"
    factors = _factors(connection, work, [(one.name, one.type) for one in made], read)
    terms = " + ".join(f"coalesce(o.{quote(name)}, 0) * {factor}" for name, factor in factors.items())
    return f"({terms}) IS NOT DISTINCT FROM s.{quote(read)}::numeric" if terms else "false"


def _factors(connection: Connection, work: Work, made: list[tuple[str, str]], read: str) -> dict[str, str]:
    """By old column what it has to be multiplied with; empty where one number is not made of one of them alone."""
    columns = ", ".join(
        f"{'v.n' if column.name == read else 'NULL'}::{column.type} AS {quote(column.name)}"
        for column in work.new.written
    )
    _, join = projection(work)
    values = ", ".join(f"m.{quote(name)}::{kind}" for name, kind in made)
    query = f"SELECT v.n, {values} FROM (VALUES ({_PROBE}), (-{_PROBE})) v(n), LATERAL (SELECT {columns}) new{join}"
    try:
        with connection.transaction():
            rows = connection.execute(sql.SQL(query)).fetchall()
    except (*REFUSED, psycopg.ProgrammingError):
        return {}  # it asks for the twin's own row, or for others
    found: dict[str, str] = {}
    for number, *numbers in rows:
        filled = {name: value for (name, _), value in zip(made, numbers, strict=True) if value}
        if len(filled) != 1:
            return {}
        # The same one for both signs has the same factor, or the rows will say so.
        found = {**{name: f"({number} / {value}::numeric)" for name, value in filled.items()}, **found}
    return found
