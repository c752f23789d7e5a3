"""Content types and permissions: the same ones have other ids in another database, so they are matched by what they
name. Both are made by Django after each migrate, so the two databases number new ones as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.catalogue import Catalogue
from safepoint.wayback.expressions import CONTENT_TYPES, ID_TABLES, PERMISSIONS
from safepoint.wayback.mapping import WayBack

TYPES = "SELECT id::int8, app_label || '.' || model FROM {types}"
RIGHTS = """
SELECT p.id::int8, p.codename, c.app_label || '.' || c.model
FROM {rights} p JOIN {types} c ON c.id = p.content_type_id
"""


def read_types(connection: Connection, catalogue: Catalogue) -> list[tuple[int, str]]:
    """Each content type's id and label; none where there is no such table.

    The application finds its tables by its own search_path, which is not ours: the catalogue says where they are.
    """
    types = catalogue.find(CONTENT_TYPES)
    if types is None:
        return []
    return connection.execute(sql.SQL(TYPES).format(types=types.identifier)).fetchall()


def read_permissions(connection: Connection, catalogue: Catalogue) -> list[tuple[int, str, str]]:
    """Each permission's id, codename and its content type's label; none where there is no such table."""
    types, rights = catalogue.find(CONTENT_TYPES), catalogue.find(PERMISSIONS)
    if types is None or rights is None:
        return []
    return connection.execute(sql.SQL(RIGHTS).format(types=types.identifier, rights=rights.identifier)).fetchall()


def named(connection: Connection, catalogue: Catalogue, parent: str) -> dict[str, str]:
    """The ids of content types or permissions and what names them in every database."""
    if parent == CONTENT_TYPES:
        return {str(number): label for number, label in read_types(connection, catalogue)}
    return {str(number): f"{codename} {label}" for number, codename, label in read_permissions(connection, catalogue)}


def match_types(
    new: Sequence[tuple[int, str]], old: Sequence[tuple[int, str]], models: Mapping[str, str]
) -> dict[int, int | None]:
    """New content type -> old one, by label; `models` has renamed ones, new -> old. Pure."""
    known, same = {label: number for number, label in old}, set(old)
    return {
        number: number
        if (number, label) in same and label not in models
        else next((known[one] for one in _former(label, models) if one in known), None)
        for number, label in new
    }


def match_permissions(
    new: Sequence[tuple[int, str, str]], old: Sequence[tuple[int, str, str]], models: Mapping[str, str]
) -> dict[int, int | None]:
    """New permission -> old one, by model and codename; a renamed model's `add_posting` is its `add_line`. Pure."""
    known, same = {(codename, label): number for number, codename, label in old}, set(old)
    found: dict[int, int | None] = {}
    for number, codename, label in new:
        if (number, codename, label) in same and label not in models:
            found[number] = number
            continue
        action, _, model = codename.rpartition("_")
        candidates = []
        for before in _former(label, models):
            own = f"{action}_{before.partition('.')[2]}" if model == label.partition(".")[2] else codename
            candidates += [(codename, before), (own, before)]
        found[number] = next((known[one] for one in candidates if one in known), None)
    return found


def _former(label: str, models: Mapping[str, str]) -> list[str]:
    """What a model may have been called, the likeliest first; a name that another one gave away was never its own.

    The row itself may bear such a name still: where a content type of the new name is there already, Django does not
    rename the old one.
    """
    own = [] if label in models.values() else [label]
    return [models[label], *own] if label in models else own


def make_tables(connection: Connection, migrated: Connection, mapping: WayBack, old: Catalogue, new: Catalogue) -> None:
    """The temporary tables that `expressions.remapped` reads; empty where no column refers to one."""
    wanted = {
        parent
        for rule in mapping.tables
        for column in rule.columns
        if column.kind == "remapped"
        for parent in ID_TABLES
        if ID_TABLES[parent] in (column.expression or "")
    }
    for parent, name in ID_TABLES.items():
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} (new int8 PRIMARY KEY, old int8) ON COMMIT DROP").format(sql.Identifier(name))
        )
        if parent not in wanted or old.find(parent) is None or new.find(parent) is None:
            continue
        if parent == CONTENT_TYPES:
            pairs = match_types(read_types(migrated, new), read_types(connection, old), mapping.models)
        elif parent == PERMISSIONS:
            pairs = match_permissions(
                read_permissions(migrated, new), read_permissions(connection, old), mapping.models
            )
        with connection.cursor() as cursor:
            statement = sql.SQL("INSERT INTO pg_temp.{} VALUES (%s, %s)").format(sql.Identifier(name))
            cursor.executemany(statement, list(pairs.items()))
