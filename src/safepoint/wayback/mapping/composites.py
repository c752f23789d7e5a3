"""The attributes of composite types: the text of a value has them by their places alone, and no name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from safepoint.postgres.connections import Connection

Composites = Mapping[str, tuple[tuple[str, str], ...]]
"""By type (the composite one, arrays of it, domains over it): the attributes in their order, each with its type."""

_READ = """
WITH RECURSIVE bearing(id, composite) AS (
    SELECT t.oid, c.oid FROM pg_type t
    JOIN pg_class c ON c.oid = t.typrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'c' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION
    SELECT t.oid, b.composite FROM bearing b JOIN pg_type t
    ON b.id = CASE WHEN t.typtype = 'd' THEN t.typbasetype WHEN t.typcategory = 'A' THEN t.typelem END
)
SELECT format_type(b.id, NULL), ARRAY(
    SELECT ARRAY[a.attname::text, format_type(a.atttypid, NULL)] FROM pg_attribute a
    WHERE a.attrelid = b.composite AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM bearing b
"""


def read_composites(connection: Connection) -> dict[str, tuple[tuple[str, str], ...]]:
    """Those of a database."""
    return {
        str(name): tuple((attribute, kind) for attribute, kind in attributes)
        for name, attributes in connection.execute(_READ).fetchall()
    }


def moved(old: Composites, was: str, new: Composites, now: str) -> tuple[str, ...]:
    """The attributes of a type, and of types within it, that stand at another place than in the old one. Pure."""
    return tuple(_moved(old, was, new, now, frozenset()))


def _moved(old: Composites, was: str, new: Composites, now: str, seen: frozenset[str]) -> Iterator[str]:
    before, after = old.get(was, ()), new.get(now, ())
    if was in seen:
        return
    places = {name: place for place, (name, _) in enumerate(after)}
    for place, (name, kind) in enumerate(before):
        if name in places and places[name] != place:
            yield name
        elif name in places:
            within = _moved(old, kind, new, after[place][1], seen | {was})
            yield from (f"{name}.{one}" for one in within)
