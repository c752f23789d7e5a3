"""By what a row that the migration made is known under another number: what it says, and what it names by numbers that
are others now (content types, rows of its own table).

`pg_temp.sp_made` says what the rows were, by the numbers of their own time: see `renumbering`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import ID_TABLES, literal, quote
from safepoint.wayback.mapping.natural import named
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.numbers import MOMENTS, UNKNOWN
from safepoint.wayback.stash.stash import Stash

_STAGE: Final = "CREATE TEMP TABLE sp_types (place int4, home text, was text, now text) ON COMMIT DROP"


def stage_types(connection: Connection, catalogue: Catalogue, found: Sequence[Stash], tables: Iterable[Table]) -> None:
    """Have what the rows were name content types and permissions by the ids that these have now; `sp_types` says which
    those are, for each stash."""
    run(connection, _STAGE)
    naming = [(table, column, home) for table in tables for column, home in of_types(catalogue, table).items()]
    for home in sorted({home for *_, home in naming}):
        now = {label: number for number, label in named(connection, catalogue, home).items()}
        with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_types FROM STDIN") as copy:
            for place, one in enumerate(found):
                known = one.identities.get(home, one.identities.get(catalogue.tables[home].relation, {}))
                for was, label in known.items():
                    copy.write_row((place, home, was, now.get(label)))
    for table, column, home in naming:
        name = literal(column)
        current = f"SELECT y.now FROM pg_temp.sp_types y WHERE {_type('m.place', home, f'm.was ->> {name}')}"
        run(
            connection,
            f"UPDATE pg_temp.sp_made m SET was = jsonb_set(m.was, ARRAY[{name}], "
            f"to_jsonb(coalesce(({current}), '{UNKNOWN}'))) "
            f"WHERE m.relation = {literal(table.name)} AND m.was ->> {name} IS NOT NULL",
        )


def of_types(catalogue: Catalogue, table: Table) -> Mapping[str, str]:
    """Its columns that name content types or permissions, with the tables of these. Pure."""
    keys = (one for one in table.foreign_keys if len(one.columns) == 1)
    return {one.columns[0]: one.parent for one in keys if catalogue.tables[one.parent].relation in ID_TABLES}


def to_itself(table: Table) -> list[str]:
    """Its columns that name rows of its own. Pure."""
    key = table.key
    return [one.columns[0] for one in table.foreign_keys if one.parent == table.name and one.parent_columns == key]


def moments_of_making(connection: Connection, table: Table) -> list[str]:
    """Its columns that say when the migration made a row, and so something else each time: no row has a moment that is
    not of these hours. Any other one (the month that a row is about) counts."""
    columns = [one.name for one in table.written if one.base in MOMENTS]
    if not columns:
        return []
    spans = ", ".join(
        f"coalesce(min(t.{quote(one)}) >= now() - interval '1 day' AND max(t.{quote(one)}) <= now(), true)"
        if table.by_name[one].base != "date"
        else f"coalesce(min(t.{quote(one)}) >= current_date - 1 AND max(t.{quote(one)}) <= current_date + 1, true)"
        for one in columns
    )
    young = ask(connection, f"SELECT {spans} FROM {rows_of(table)} t")[0]
    return [one for one, is_young in zip(columns, young, strict=True) if is_young]


def next_level(connection: Connection, table: Table, place: int, level: int) -> int:
    """Those whose parents in their own table are known again, or which have none: they name these by the numbers of
    now. Gives how many there are; without such parents all are of the first level."""
    was, free = "m.was", []
    for column in map(literal, to_itself(table)):
        parent = (
            f"FROM pg_temp.sp_made o WHERE o.relation = m.relation AND o.place = m.place AND o.level < {level} "
            f"AND o.key = m.was ->> {column}"
        )
        free.append(f"(m.was ->> {column} IS NULL OR EXISTS (SELECT {parent}))")
        now = f"to_jsonb((SELECT coalesce(min(o.now), '{UNKNOWN}') {parent}))"
        was = f"CASE WHEN m.was ->> {column} IS NULL THEN {was} ELSE jsonb_set({was}, ARRAY[{column}], {now}) END"
    return run(
        connection,
        f"UPDATE pg_temp.sp_made m SET level = {level}, was = {was} WHERE m.relation = {literal(table.name)} "
        f"AND m.place = {place} AND m.level IS NULL AND {' AND '.join(['true', *free])}",
    )


def said_now(catalogue: Catalogue, table: Table) -> str:
    """A value `v` of a line `l`, by the numbers of now where it is one of those."""
    cases = [
        f"WHEN v.key = {literal(column)} THEN to_jsonb((SELECT y.now FROM pg_temp.sp_types y "
        f"WHERE {_type('l.place', home, 'v.value #>> ARRAY[]::text[]')}))"
        for column, home in of_types(catalogue, table).items()
    ] + [
        f"WHEN v.key = {literal(column)} THEN coalesce(to_jsonb((SELECT min(o.now) FROM pg_temp.sp_made o "
        f"WHERE o.relation = {literal(table.name)} AND o.place = l.place AND o.key = v.value #>> ARRAY[]::text[])), "
        f"v.value)"
        for column in to_itself(table)
    ]
    return f"CASE {' '.join(cases)} ELSE v.value END" if cases else "v.value"


def _type(place: str, home: str, number: str) -> str:
    return f"y.place = {place} AND y.home = {literal(home)} AND y.was = {number}"
