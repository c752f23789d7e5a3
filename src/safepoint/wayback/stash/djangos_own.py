"""Content types and permissions of a stash: Django makes its own after each migration, and those have other ids.

They are known by what they name. A permission that somebody made by hand is made again, for nobody else does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import PERMISSIONS
from safepoint.wayback.mapping.natural import named, types_of
from safepoint.wayback.stash.stash import Stash

_LINES: Final = "SELECT n, place, action, vals FROM pg_temp.sp_stash WHERE relation = %s ORDER BY n"
_LEAVE: Final = """
INSERT INTO pg_temp.sp_left SELECT relation, key, '*', %s, vals::text FROM pg_temp.sp_stash WHERE n = %s
"""
_MAKE: Final = "INSERT INTO {} ({}) VALUES ({})"
_DJANGO: Final = "Django makes these itself, after each migration"


def attach_own(connection: Connection, catalogue: Catalogue, table: Table, found: Sequence[Stash]) -> tuple[int, int]:
    """Gives how many were made, and how many are there already; the others are told.

    Args:
        table: one of content types or permissions.
        found: the stashes, by their place, which know what the ids of content types named.
    """
    rights = table.relation == PERMISSIONS
    types = types_of(catalogue, table) if rights else None
    there = set(named(connection, catalogue, table.name).values())
    numbers = {} if types is None else {one: n for n, one in named(connection, catalogue, types.name).items()}
    made = already = 0
    for n, place, action, vals in connection.execute(_LINES, [table.name]).fetchall():
        label, number = f"{vals.get('app_label')}.{vals.get('model')}", None
        if types is not None:
            were = found[place].identities.get(types.name, found[place].identities.get(types.relation, {}))
            model = were.get(str(vals.get("content_type_id")), "")
            label, number = f"{vals.get('codename')} {model}", numbers.get(model)
        if action != "delete" and label in there:
            already += 1
        elif action == "delete" or not rights:
            connection.execute(_LEAVE, [_DJANGO, n])
        elif number is None:
            connection.execute(_LEAVE, ["what its content_type_id names is not there", n])
        else:
            _make(connection, table, {**vals, "content_type_id": number})
            there.add(label)
            made += 1
    return made, already


def _make(connection: Connection, table: Table, vals: Mapping[str, str | None]) -> None:
    """A row with a number of its own."""
    columns = [one for one in table.written if one.name in vals and one.name not in table.key]
    names = sql.SQL(", ").join(sql.Identifier(one.name) for one in columns)
    # The type's name comes from format_type, which quotes what must be quoted.
    values = sql.SQL(", ").join(sql.SQL("{}::{}").format(vals[one.name], sql.SQL(one.type)) for one in columns)
    connection.execute(sql.SQL(_MAKE).format(table.identifier, names, values))
