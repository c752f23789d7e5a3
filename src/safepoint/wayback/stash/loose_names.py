"""References that no constraint holds, of stashed lines to rows that have another number now: as the models know them.

A generic foreign key has a row's number, and beside it the content type of its model; one without a constraint has the
number alone. `pg_temp.sp_loose` says which columns of which lines these are, for each stash by its own content types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import literal
from safepoint.wayback.mapping.loose import numbered_by
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.stash.numbers import UNKNOWN, lost_to, unfound
from safepoint.wayback.stash.stash import Stash

_STAGE: Final = """
CREATE TEMP TABLE sp_loose (place int4, child text, col text, kind text, id text, parent text) ON COMMIT DROP
"""


def stage(connection: Connection, catalogue: Catalogue, found: Sequence[Stash]) -> None:
    """Make `sp_loose`."""
    run(connection, _STAGE)
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_loose FROM STDIN") as copy:
        for place, one in enumerate(found):
            for line in _lines(catalogue, one):
                copy.write_row((place, *line))


def _lines(catalogue: Catalogue, stash: Stash) -> Iterator[tuple[str, str, str | None, str | None, str]]:
    for loose in stash.referring:
        if loose.kind is None:
            if loose.parent is not None:
                yield loose.table, loose.column, None, None, numbered_by(catalogue, loose.parent)
            continue
        for number, label in stash.identities.get(str(loose.types), {}).items():
            if (parent := stash.models.get(label)) is not None:
                yield loose.table, loose.column, loose.kind, number, numbered_by(catalogue, parent)


def parents(catalogue: Catalogue, found: Sequence[Stash], name: str) -> set[str]:
    """The tables that give the rows their numbers that rows of this one may name so."""
    lines = (line for one in found for line in _lines(catalogue, one) if line[0] == name)
    return {parent for *_, parent in lines} - {name}


def follow(connection: Connection, parent: Table, place: int) -> None:
    """Have what names this table's rows name them by their new numbers; what names one that is not found is told.
    `pg_temp.sp_made` says which these are: see `renumbering`."""
    table = parent.name
    changed = f"m.relation = {literal(table)} AND m.place = {place} AND m.now IS DISTINCT FROM m.key"
    for child, column, kind in _columns(connection, table, place):
        named = _named(child, column, kind, table, place)
        run(
            connection,
            f"UPDATE pg_temp.sp_lines l SET line = CASE WHEN m.now IS NULL THEN "
            f"l.line || jsonb_build_object('bad', {literal(unfound(parent))}) ELSE {_set(column)} END "
            f"FROM pg_temp.sp_made m WHERE {changed} AND {named} AND {_value(column)} = m.key",
        )
        which = f" AND c.was ->> {literal(kind)} IN ({_ids(child, column, table, place)})" if kind else ""
        run(
            connection,
            f"UPDATE pg_temp.sp_made c SET was = jsonb_set(c.was, ARRAY[{literal(column)}], "
            f"to_jsonb(coalesce(m.now, '{UNKNOWN}'))) FROM pg_temp.sp_made m WHERE {changed} AND c.place = m.place "
            f"AND c.relation = {literal(child)} AND c.was ->> {literal(column)} = m.key{which}",
        )


def tell_lost(connection: Connection, catalogue: Catalogue) -> None:
    """What has come back and names a row that has not: nothing holds it, and nobody would look for it."""
    query = "SELECT DISTINCT g.parent, g.place FROM pg_temp.sp_loose g JOIN pg_temp.sp_left f ON f.relation = g.parent"
    for name, place in ask(connection, query):
        if (parent := catalogue.tables.get(str(name))) is None:
            continue
        for child, column, kind in _columns(connection, parent.name, int(place)):
            said, reason = literal(column), literal(lost_to(parent))
            names = "jsonb_object_keys(CASE WHEN f.col = '*' THEN f.key ELSE '{}' END) k(name)"
            run(
                connection,
                f"INSERT INTO pg_temp.sp_left SELECT DISTINCT {literal(child)}, l.line -> 'key', {said}, {reason}, "
                f"{_value(column)} FROM pg_temp.sp_lines l, pg_temp.sp_left f, {names} "
                f"WHERE f.relation = {literal(parent.name)} AND f.key = jsonb_build_object(k.name, {_value(column)}) "
                f"AND {_named(child, column, kind, parent.name, int(place))} AND l.line ->> 'action' <> 'delete' "
                f"AND NOT EXISTS (SELECT FROM pg_temp.sp_left x WHERE x.relation = {literal(child)} "
                f"AND x.key = l.line -> 'key' AND x.col IN ('*', {said}))",
            )


def _columns(connection: Connection, table: str, place: int) -> list[tuple[str, str, str | None]]:
    which = f"parent = {literal(table)} AND place = {place}"
    found = ask(connection, f"SELECT DISTINCT child, col, kind FROM pg_temp.sp_loose WHERE {which}")
    return [(str(child), str(column), kind) for child, column, kind in found]


def _ids(child: str, column: str, table: str, place: int) -> str:
    return (
        f"SELECT g.id FROM pg_temp.sp_loose g WHERE g.place = {place} AND g.parent = {literal(table)} "
        f"AND g.child = {literal(child)} AND g.col = {literal(column)}"
    )


def _value(column: str) -> str:
    """What a line has in a column: of a change, also where that is as it was."""
    return f"coalesce(l.line -> 'values' ->> {literal(column)}, l.line -> 'was' ->> {literal(column)})"


def _named(child: str, column: str, kind: str | None, table: str, place: int) -> str:
    """Whether a line `l` gives such a reference."""
    given = " OR ".join(f"coalesce(l.line -> 'values' ? {literal(one)}, false)" for one in (column, kind) if one)
    which = f" AND {_value(kind)} IN ({_ids(child, column, table, place)})" if kind else ""
    return f"l.place = {place} AND l.line ->> 'relation' = {literal(child)} AND ({given}){which}"


def _set(column: str) -> str:
    key, now = f"coalesce(l.line -> 'key' ? {literal(column)}, false)", "to_jsonb(m.now)"
    line = f"CASE WHEN {key} THEN jsonb_set(l.line, ARRAY['key', {literal(column)}], {now}) ELSE l.line END"
    return f"jsonb_set({line}, ARRAY['values', {literal(column)}], {now})"
