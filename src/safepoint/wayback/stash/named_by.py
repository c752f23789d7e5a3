"""By which other rows a row that the migration made is named: a customer's address, a cart that a link leads to.

Rows may say the same and be different people's, and then their numbers alone tell them apart, which are others the next
time. Who names them is known again: a row of a table that was there before by its key, a link by what it links to.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.mapping.loose import numbers_in
from safepoint.wayback.replay.statements import REFUSED, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.numbers import MOMENTS, others

_NOTED: Final = """
CREATE TEMP TABLE sp_born (relation text, key jsonb);
CREATE TEMP TABLE sp_naming (relation text, key text, elem jsonb);
"""
NOTED_END: Final = "DROP TABLE pg_temp.sp_born, pg_temp.sp_naming"
_STAGED: Final = """
CREATE TEMP TABLE sp_naming (relation text, key text, elem jsonb) ON COMMIT DROP;
CREATE TEMP TABLE sp_by ON COMMIT DROP AS
SELECT DISTINCT m.relation, b.elem FROM pg_temp.sp_made m CROSS JOIN LATERAL jsonb_array_elements(m.by) b(elem);
ANALYZE pg_temp.sp_by;
"""
# All that named it then, and are there still, name one row now.
_AGREED: Final = """
SELECT m.place, m.key, min(n.key) AS now FROM pg_temp.sp_made m CROSS JOIN LATERAL jsonb_array_elements(m.by) b(elem)
JOIN pg_temp.sp_naming n ON n.relation = m.relation AND n.elem = b.elem
WHERE {of} GROUP BY 1, 2 HAVING min(n.key) = max(n.key)
"""
_ENOUGH: Final = 20  # of those who name one row


@dataclass(frozen=True)
class Naming:
    """A column of `child` that names rows of `parent`; `known_by` says which row of `child` it is."""

    child: str
    column: str
    parent: str
    known_by: tuple[str, ...]


def namings(catalogue: Catalogue, parents: Collection[str], made: Collection[str]) -> list[Naming]:
    """Those of rows of `parents`, by rows that are known whatever is numbered otherwise. Pure.

    Args:
        made: the tables that the migration made.
    """
    found = []
    for child in catalogue.tables.values():
        keys = [one for one in child.foreign_keys if len(one.columns) == 1 and not one.period]
        leading = tuple(one.columns[0] for one in keys if one.parent not in made)
        known_by = leading if child.name in made else child.key
        for column, owner in numbers_in(catalogue, child).items():
            if owner in parents and known_by and column not in known_by:
                found.append(Naming(child.name, column, owner, known_by))
    return found


def note_namings(kept: Connection, catalogue: Catalogue, found: Collection[Naming], rows: Path) -> None:
    """Make `sp_naming`: who names the rows of `sp_was`, but for people's own rows, which no migration makes.

    Args:
        rows: the stash's lines.
    """
    run(kept, _NOTED)
    with kept.cursor() as cursor, cursor.copy("COPY pg_temp.sp_born FROM STDIN") as copy:
        for born in _born(rows, {one.child for one in found}):
            copy.write_row(born)
    run(kept, "CREATE INDEX ON pg_temp.sp_born (relation, key)")
    for one in found:
        known_by = ", ".join(f"c.k{at}" for at in range(len(one.known_by)))
        first = f"row_number() OVER (PARTITION BY w.key ORDER BY {known_by})"
        run(
            kept,
            f"INSERT INTO pg_temp.sp_naming SELECT {literal(one.parent)}, key, elem FROM (SELECT w.key, "
            f"jsonb_build_array({literal(one.child)}, {literal(one.column)}, {known_by}) AS elem, {first} AS nth "
            f"FROM ({_rows(catalogue.tables[one.child], one)}) c JOIN pg_temp.sp_was w "
            f"ON w.relation = {literal(one.parent)} AND w.key = c.value) n WHERE nth <= {_ENOUGH}",
        )
    for name in {one.parent for one in found}:
        run(kept, unlike_any(catalogue.tables[name]))


def _rows(child: Table, one: Naming) -> str:
    """What named whom, as text: of the migration's own rows, before people changed or deleted them."""
    names = {"value": one.column, **{f"k{at}": name for at, name in enumerate(one.known_by)}}
    key = ", ".join(f"{literal(name)}, {written(f'c.{quote(name)}')}" for name in child.key)
    now = ", ".join(f"{written(f'c.{quote(name)}')} AS {place}" for place, name in names.items())
    was = ", ".join(f"x.was ->> {literal(name)}" for name in names.values())
    born = (
        f"SELECT FROM pg_temp.sp_born b WHERE b.relation = {literal(one.child)} AND b.key = jsonb_build_object({key})"
    )
    noted = f"pg_temp.sp_was x WHERE x.relation = {literal(one.child)}"
    same = f"AND x.key = {written(f'c.{quote(child.key[0])}')}" if len(child.key) == 1 else "AND false"
    return (
        f"SELECT {now} FROM {rows_of(child)} c WHERE NOT EXISTS ({born}) AND NOT EXISTS (SELECT FROM {noted} {same}) "
        f"UNION ALL SELECT {was} FROM {noted} AND x.was IS NOT NULL"
    )


def unlike_any(table: Table) -> str:
    """Marks those of `sp_was` of which no other row of the table said the same when the migration had made them, but
    for their numbers and for moments, which may be those of their making."""
    names = [one.name for one in table.written if one.name not in table.key and one.base not in MOMENTS]
    was, now = (
        ", ".join(one)
        for one in ((f"x.was ->> {literal(name)}" for name in names), (written(f"c.{quote(name)}") for name in names))
    )
    noted = f"pg_temp.sp_was x WHERE x.relation = {literal(table.name)}"
    key = f"x.key = {written(f'c.{quote(table.key[0])}')}"
    said = (
        f"SELECT md5(ARRAY[{was}]::text) AS digest, x.key FROM {noted} AND x.was IS NOT NULL UNION ALL "
        f"SELECT md5(ARRAY[{now}]::text), NULL FROM {rows_of(table)} c WHERE NOT EXISTS (SELECT FROM {noted} AND {key})"
    )
    alone = f"SELECT min(key) AS key FROM ({said}) s GROUP BY digest HAVING count(*) = 1 AND count(key) = 1"
    return (
        f"UPDATE pg_temp.sp_was w SET alone = true FROM ({alone}) a "
        f"WHERE w.relation = {literal(table.name)} AND w.key = a.key"
    )


def said_by(found: Iterable[Naming]) -> str:
    """Who names a row of `sp_was`, as JSON; NULL where nobody can. For its rows without an alias."""
    parents = ", ".join(sorted({literal(one.parent) for one in found}))
    naming = "pg_temp.sp_naming n WHERE n.relation = sp_was.relation AND n.key = sp_was.key"
    elements = f"coalesce((SELECT jsonb_agg(DISTINCT n.elem) FROM {naming}), '[]')"
    return f"CASE WHEN relation IN ({parents}) THEN {elements} END" if parents else "NULL"


def stage_namings(connection: Connection, catalogue: Catalogue, found: Iterable[Naming]) -> None:
    """Make `sp_naming` of whom those name now, or nobody, who are told of in `sp_made`."""
    run(connection, _STAGED)
    for one in found:
        child = catalogue.tables[one.child]
        same = " AND ".join(
            f"c.{quote(name)} = (b.elem ->> {at})::{child.by_name[name].type}"
            for at, name in enumerate(one.known_by, 2)
        )
        of = f"b.relation = {literal(one.parent)} AND b.elem ->> 0 = {literal(one.child)}"
        value = written(f"c.{quote(one.column)}")
        with suppress(*REFUSED), connection.transaction():  # a key may be of another type by now
            run(
                connection,
                f"INSERT INTO pg_temp.sp_naming SELECT b.relation, {value}, b.elem FROM pg_temp.sp_by b "
                f"JOIN {rows_of(child)} c ON {same} WHERE {of} AND b.elem ->> 1 = {literal(one.column)}",
            )
    run(connection, "CREATE INDEX ON pg_temp.sp_naming (relation, elem)")
    run(connection, "ANALYZE pg_temp.sp_naming")


def follow_namings(connection: Connection, of: str, rows: str, number: str, same: str) -> None:
    """Those that somebody names are the rows that these name now, where they say what they said.

    Args:
        of: which rows `m` of `sp_made`.
        rows: the table's rows `t`.
        number: the key of such a row, as SQL.
        same: whether `t` says what `m` said.
    """
    agreed = _AGREED.format(of=of)
    run(
        connection,
        f"UPDATE pg_temp.sp_made m SET now = a.now FROM ({agreed}) a, {rows} "
        f"WHERE {of} AND a.place = m.place AND a.key = m.key AND {number}::text = a.now AND {same}",
    )


def nobody_names(catalogue: Catalogue, found: Iterable[Naming], number: str) -> str:
    """Whether nobody names the row of this number. Pure."""
    naming = (
        f"NOT EXISTS (SELECT FROM {rows_of(catalogue.tables[one.child])} c WHERE c.{quote(one.column)} = {number})"
        for one in found
    )
    return " AND ".join(naming) or "true"


def named_since() -> str:
    """Whether those who named a row `m` of `sp_made` name nobody here: people had them name it. Pure."""
    nobody = "SELECT FROM pg_temp.sp_naming n WHERE n.relation = m.relation AND n.elem = b.elem AND n.key IS NULL"
    return f"NOT EXISTS (SELECT FROM jsonb_array_elements(m.by) b(elem) WHERE NOT EXISTS ({nobody}))"


def known_alone(table: Table, made: Collection[str]) -> str:
    """Whether a row `m` of `sp_made` is known whoever names it: by what only one may have, or only it said, by a row
    that was there before (its person), or for nobody can name it. Pure.

    Args:
        made: the tables that the migration made.
    """
    leading = [key.columns for key in table.foreign_keys if key.parent not in made and not key.period]
    said = (
        " AND ".join(f"m.was ->> {literal(name)} IS NOT NULL" for name in columns)
        for columns in [*others(table, table.key), *leading]
    )
    return f"({' OR '.join(['m.by IS NULL', 'm.alone', *said])})"


def _born(rows: Path, children: Collection[str]) -> Iterator[tuple[str, str]]:
    with rows.open(encoding="utf-8") as file:
        for one in map(json.loads, file):
            if one["action"] == "insert" and one["relation"] in children:
                yield one["relation"], json.dumps(one["key"])
