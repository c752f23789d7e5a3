"""Content types and permissions: the same ones have other ids in another database, so they are matched by what they
name. Both are made by Django after each migrate, so the two databases number new ones as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import CONTENT_TYPES, ID_TABLES
from safepoint.wayback.mapping.mapping import TableRule

TYPES: Final = "SELECT {home}, id::int8, app_label || '.' || model, NULL FROM {table}"
RIGHTS: Final = """
SELECT {home}, p.id::int8, c.app_label || '.' || c.model, p.codename
FROM {table} p JOIN {types} c ON c.id = p.content_type_id
"""
_AT_ONCE: Final = 100  # each tenant may have its own

Named = list[tuple[int, str, str | None]]
"""A table's ids, each with the model's label, and the codename where it is a permission's."""


def read_named(connection: Connection, catalogue: Catalogue, homes: Iterable[str]) -> dict[str, Named]:
    """What the rows of these tables of content types or permissions (`schema.table`) name.

    The application finds its tables by its own search_path, which is not ours: the catalogue says where they are.
    """
    found: dict[str, Named] = {home: [] for home in homes}
    for few in _batched(sorted(found), _AT_ONCE):
        queries = [query for home in few if (query := _query(catalogue, home)) is not None]
        if queries:
            for home, number, label, codename in connection.execute(sql.SQL(" UNION ALL ").join(queries)).fetchall():
                found[home].append((number, label, codename))
    return found


def _batched(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[place : place + size] for place in range(0, len(names), size))


def _query(catalogue: Catalogue, home: str) -> sql.Composed | None:
    table = catalogue.tables.get(home)
    if table is None:
        return None
    words = {"home": sql.Literal(home), "table": table.identifier}
    if table.relation == CONTENT_TYPES:
        return sql.SQL(TYPES).format(**words)
    types = types_of(catalogue, table)
    return None if types is None else sql.SQL(RIGHTS).format(**words, types=types.identifier)


def types_of(catalogue: Catalogue, rights: Table) -> Table | None:
    """The content types that permissions are of: those that they refer to, or that stand beside them."""
    referred = (key.parent for key in rights.foreign_keys if key.columns == ("content_type_id",))
    name = next(referred, f"{rights.schema}.{CONTENT_TYPES}")
    return catalogue.tables.get(name) or catalogue.find(CONTENT_TYPES)


def named(connection: Connection, catalogue: Catalogue, home: str) -> dict[str, str]:
    """The ids of content types or permissions in this table, and what names them in every database."""
    rows = read_named(connection, catalogue, [home])[home]
    return {str(number): label if codename is None else f"{codename} {label}" for number, label, codename in rows}


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


def make_tables(
    connection: Connection,
    migrated: Connection,
    rules: Iterable[TableRule],
    models: Mapping[str, str],
    old: Catalogue,
    new: Catalogue,
) -> None:
    """The temporary tables that `expressions.remapped` reads; empty where no column of these tables refers to one."""
    homes = sorted({column.home for rule in rules for column in rule.columns if column.home is not None})
    there = {home: _now(new, home) for home in homes}
    ours = read_named(connection, old, homes)
    theirs = read_named(migrated, new, set(there.values()))
    for parent, name in ID_TABLES.items():
        connection.execute(
            sql.SQL(
                "CREATE TEMP TABLE {} (home text, new int8, old int8, PRIMARY KEY (home, new)) ON COMMIT DROP"
            ).format(sql.Identifier(name))
        )
        rows = [
            (home, *pair)
            for home in homes
            if home.partition(".")[2] == parent
            for pair in _pairs(parent, theirs[there[home]], ours[home], models)
        ]
        with connection.cursor() as cursor:
            statement = sql.SQL("INSERT INTO pg_temp.{} VALUES (%s, %s, %s)").format(sql.Identifier(name))
            cursor.executemany(statement, rows)


def _now(new: Catalogue, home: str) -> str:
    """Where an old table of content types or permissions stands in the new schema."""
    found = new.tables.get(home) or new.find(home.partition(".")[2])
    return home if found is None else found.name


def _pairs(parent: str, new: Named, old: Named, models: Mapping[str, str]) -> Iterable[tuple[int, int | None]]:
    if parent == CONTENT_TYPES:
        types = [[(number, label) for number, label, _ in side] for side in (new, old)]
        return match_types(types[0], types[1], models).items()
    rights = [[(number, str(codename), label) for number, label, codename in side] for side in (new, old)]
    return match_permissions(rights[0], rights[1], models).items()
