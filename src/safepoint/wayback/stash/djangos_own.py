"""Content types and permissions of a stash: Django makes its own after each migration, and those have other ids.

They are known by what they name. A permission that somebody made by hand is made again, for nobody else does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import CONTENT_TYPES, PERMISSIONS, literal
from safepoint.wayback.mapping.natural import named, types_of
from safepoint.wayback.replay.statements import run
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


def name_again(connection: Connection, catalogue: Catalogue, table: Table, found: Sequence[Stash]) -> None:
    """Ids of content types and permissions are others in this database: found again by what they name."""
    for key in table.foreign_keys:
        parent = catalogue.tables[key.parent].relation
        if parent not in (CONTENT_TYPES, PERMISSIONS) or len(key.columns) != 1:
            continue
        now = {label: number for number, label in named(connection, catalogue, key.parent).items()}
        # Each tenant's schema may have its own; an earlier version's stash has those of one, by the bare name.
        pairs = [
            (place, was, now.get(label))
            for place, one in enumerate(found)
            for was, label in one.identities.get(key.parent, one.identities.get(parent, {})).items()
        ]
        run(connection, "CREATE TEMP TABLE sp_ids (place int4, was text, now text) ON COMMIT DROP")
        with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_ids FROM STDIN") as copy:
            for pair in pairs:
                copy.write_row(pair)
        column = literal(key.columns[0])
        path = f"ARRAY[{column}]"
        which = f"s.relation = {literal(table.name)} AND s.{{where}} ->> {column} IS NOT NULL"
        for where in ("vals", "key", "was"):
            run(
                connection,
                f"UPDATE pg_temp.sp_stash s SET bad = CASE WHEN i.now IS NULL THEN "
                f"{literal(f'what its {key.columns[0]} names is not there')} ELSE s.bad END, "
                f"{where} = jsonb_set(s.{where}, {path}, coalesce(to_jsonb(i.now), 'null')) "
                f"FROM pg_temp.sp_stash o LEFT JOIN pg_temp.sp_ids i ON i.place = o.place "
                f"AND i.was = o.{where} ->> {column} WHERE o.n = s.n AND {which.format(where=where)}",
            )
        run(connection, "DROP TABLE pg_temp.sp_ids")
