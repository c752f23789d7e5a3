"""Rows that the migration made, as it made them: kept beside the stash for those that it changes, or refers to.

A stashed line has their numbers, and the next migration may number its rows otherwise: rows that it makes them of were
added or deleted meanwhile. By what they were they are known again (`renumbering`). What changed them later says what
they were before: for these tables the log has whole old rows (`capture.arm`), and triggers note them anyway.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

from safepoint.postgres import pgoutput
from safepoint.postgres.connections import Connection
from safepoint.wayback.capture.spool import read_messages
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.mapping.loose import leads_of, numbered_by, numbers_in
from safepoint.wayback.mapping.mapping import NOT_CARRIED, Loose, WayBack
from safepoint.wayback.replay.statements import run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.named_by import NOTED_END, namings, note_namings, said_by
from safepoint.wayback.stash.numbers import given_out

_STAGE: Final = """
CREATE TEMP TABLE sp_wanted (relation text, key text);
CREATE TEMP TABLE sp_before (relation text, key text, n int8, was jsonb);
CREATE TEMP TABLE sp_was (
    relation text, key text, was jsonb, alone boolean NOT NULL DEFAULT false, PRIMARY KEY (relation, key));
"""
_END: Final = "DROP TABLE pg_temp.sp_wanted, pg_temp.sp_before, pg_temp.sp_was"
# JSON has no control characters of its own: see `records.EXPORT`.
_TOLD: Final = """
COPY (SELECT jsonb_build_object(
    'relation', relation, 'key', key, 'was', was, 'by', {by}, 'alone', alone) FROM pg_temp.sp_was)
TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
"""
_OIDS: Final = """
SELECT c.oid::int8, r.name FROM unnest(%s::text[]) r(name)
JOIN pg_namespace s ON s.nspname || '.' = left(r.name, length(s.nspname) + 1)
JOIN pg_class p ON p.relnamespace = s.oid AND s.nspname || '.' || p.relname = r.name
CROSS JOIN LATERAL (SELECT p.oid UNION SELECT relid FROM pg_partition_tree(p.oid)) c(oid)
"""
_INSERT, _UPDATE, _DELETE, _RELATION, _WHOLE = b"IUDRO"


def note_made(
    kept: Connection,
    catalogue: Catalogue,
    mapping: WayBack,
    identities: Mapping[str, Mapping[str, str]],
    rows: Path,
    spool: Path,
    out: Path,
) -> None:
    """Write a line for each: its table, its key, what it was; nothing (`null`) of one that people made since, for what
    is stashed of it may be its last change alone. No file where there is none.

    Args:
        kept: the migrated database, which nobody changes any more.
        catalogue: its tables.
        identities: by table of content types, what its ids name.
        rows: the stash's lines.
        spool: what the capture noted.
    """
    tables = {
        name: table
        for name, table in catalogue.tables.items()
        if name not in mapping.feeds and table.relation not in NOT_CARRIED and given_out(table, table.key)
    }
    if not tables:
        return
    run(kept, _STAGE)
    of = {int(oid).to_bytes(4, "big"): str(name) for oid, name in kept.execute(_OIDS, [list(tables)]).fetchall()}
    with kept.cursor() as cursor, cursor.copy("COPY pg_temp.sp_wanted FROM STDIN") as copy:
        for wanted in _wanted(rows, catalogue, tables):
            copy.write_row(wanted)
        for wanted in _loosely(rows, catalogue, mapping, identities):
            if wanted[0] in tables:
                copy.write_row(wanted)
    with kept.cursor() as cursor, cursor.copy("COPY pg_temp.sp_before FROM STDIN") as copy:
        for before in _before(spool, tables, of):
            copy.write_row(before)
    run(kept, "CREATE INDEX ON pg_temp.sp_before (relation, key, n)")
    named = [*_named(catalogue, tables), *_named_loosely(catalogue, mapping, identities, tables)]
    while True:  # by what it names a row is known as well
        for name, table in tables.items():
            run(kept, _asked(name, table))
        if not sum([run(kept, one) for one in named]):
            break
    naming = namings(catalogue, tables.keys(), catalogue.tables.keys() - mapping.feeds.keys())
    note_namings(kept, catalogue, naming, rows)
    _write(kept, out, _TOLD.format(by=said_by(naming)))
    run(kept, f"{_END}; {NOTED_END}")


def _write(kept: Connection, out: Path, told: str) -> None:
    lines = 0
    with out.open("wb") as file:
        out.chmod(0o600)
        with kept.cursor() as cursor, cursor.copy(told) as copy:
            for piece in copy:
                lines += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if not lines:
        out.unlink()


def _wanted(rows: Path, catalogue: Catalogue, tables: Mapping[str, Table]) -> Iterator[tuple[str, str]]:
    """What the lines name of these tables' rows."""
    leads = {name: _leads(catalogue, table, tables) for name, table in catalogue.tables.items()}
    with rows.open(encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            name = one["relation"]
            if name in tables and one["key"]:
                yield name, one["key"][tables[name].key[0]]
            for column, parent in leads.get(name, ()):
                for values in (one["values"], one.get("was") or {}):
                    if values.get(column) is not None:
                        yield parent, values[column]


def _leads(catalogue: Catalogue, table: Table, tables: Mapping[str, Table]) -> list[tuple[str, str]]:
    """Its columns that name rows of these tables, with these."""
    return [(column, owner) for column, owner in numbers_in(catalogue, table).items() if owner in tables]


def _named(catalogue: Catalogue, tables: Mapping[str, Table]) -> Iterator[str]:
    """What such rows name of these tables in their turn is wanted, too: a statement for each foreign key."""
    for name in tables:
        for column, parent in _leads(catalogue, catalogue.tables[name], tables):
            yield _wanting(name, column, parent)


def _named_loosely(
    catalogue: Catalogue,
    mapping: WayBack,
    identities: Mapping[str, Mapping[str, str]],
    tables: Mapping[str, Table],
) -> Iterator[str]:
    """The same of what they name by no constraint."""
    for loose in mapping.to_made:
        if loose.table not in tables:
            continue
        if loose.kind is None:
            leading = [(loose.parent, "")]
        else:
            kind = f"AND w.was ->> {literal(loose.kind)} = "
            ids = identities.get(str(loose.types), {})
            leading = [(mapping.made.get(label), kind + literal(number)) for number, label in ids.items()]
        for parent, which in leading:
            if parent is not None and (owner := numbered_by(catalogue, parent)) in tables:
                yield _wanting(loose.table, loose.column, owner, which)


def _wanting(child: str, column: str, parent: str, which: str = "") -> str:
    value = f"w.was ->> {literal(column)}"
    return (
        f"INSERT INTO pg_temp.sp_wanted SELECT DISTINCT {literal(parent)}, {value} FROM pg_temp.sp_was w "
        f"WHERE w.relation = {literal(child)} AND {value} IS NOT NULL {which} AND NOT EXISTS ("
        f"SELECT FROM pg_temp.sp_wanted x WHERE x.relation = {literal(parent)} AND x.key = {value})"
    )


def _loosely(
    rows: Path, catalogue: Catalogue, mapping: WayBack, identities: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    """What they name by no constraint."""
    loose: dict[str, list[Loose]] = {}
    for one in mapping.to_made:
        loose.setdefault(one.table, []).append(one)
    with rows.open(encoding="utf-8") if loose else nullcontext(()) as lines:
        for line in map(json.loads, lines):
            values = {**(line.get("was") or {}), **line["values"]}
            for one in loose.get(line["relation"], ()):
                parent, number = leads_of(one, values, identities, mapping.made), values.get(one.column)
                if parent is not None and number is not None:
                    yield numbered_by(catalogue, parent), number


def _before(
    spool: Path, tables: Mapping[str, Table], of: Mapping[bytes, str]
) -> Iterator[tuple[str, str, int, str | None]]:
    """Whole rows of these tables, as they were before each change of them, in commit order; None: there was none.

    `of` says by its number, as messages have it, which table's rows a relation has.
    """
    columns: dict[bytes, tuple[str, ...]] = {}
    for n, message in enumerate(read_messages(spool)):
        kind, oid = message[0], message[1:5]
        if oid not in of or kind not in (_RELATION, _INSERT, _UPDATE, _DELETE):
            continue
        if kind != _INSERT and kind != _RELATION and message[5] != _WHOLE:
            continue
        said = pgoutput.decode(message)
        if isinstance(said, pgoutput.Relation):
            columns[oid] = tuple(one.name for one in said.columns)
            continue
        assert isinstance(said, pgoutput.Insert | pgoutput.Update | pgoutput.Delete)  # noqa: S101 - its kind says so
        row = _readable(columns[oid], (said.new if isinstance(said, pgoutput.Insert) else said.old) or ())
        key = row.get(tables[of[oid]].key[0])
        if key is not None:
            yield of[oid], key, n, None if kind == _INSERT else json.dumps(row, ensure_ascii=False)


def _readable(names: Sequence[str], values: Sequence[pgoutput.Value]) -> dict[str, str | None]:
    """A row without what is no text: a SQL_ASCII database may hold anything."""
    row: dict[str, str | None] = {}
    for name, value in zip(names, values, strict=True):
        with suppress(UnicodeEncodeError):
            if value is None or (isinstance(value, str) and value.encode() is not None):
                row[name] = value
    return row


def _asked(name: str, table: Table) -> str:
    """What each of the wanted ones was before its first change, or is."""
    key = table.by_name[table.key[0]]
    columns = [column.name for column in table.written]
    names, values = (
        ", ".join(one) for one in (map(literal, columns), (written(f"t.{quote(name)}") for name in columns))
    )
    return f"""
INSERT INTO pg_temp.sp_was
    SELECT {literal(name)}, w.key, CASE WHEN b.n IS NULL
        THEN jsonb_object(ARRAY[{names}]::text[], ARRAY[{values}]::text[]) ELSE b.was END
    FROM (SELECT DISTINCT key FROM pg_temp.sp_wanted WHERE relation = {literal(name)}) w
    LEFT JOIN LATERAL (SELECT n, was FROM pg_temp.sp_before WHERE relation = {literal(name)} AND key = w.key
                       ORDER BY n LIMIT 1) b ON true
    LEFT JOIN {rows_of(table)} t ON t.{quote(key.name)} = w.key::{key.type}
    WHERE b.n IS NOT NULL OR t.{quote(key.name)} IS NOT NULL
ON CONFLICT DO NOTHING
"""
