"""What mappers gave the old release of stashed rows, by the row of the mapped table that these lead to: kept beside the
stash. Where the next launch's mappers make the same of it, nobody changed it meanwhile, and its rows may be what they
were (`standing`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.expressions import literal, quote, written
from safepoint.wayback.mapping.mapping import ColumnRule, WayBack
from safepoint.wayback.mapping.reading import lent, readers
from safepoint.wayback.replay.statements import ask, is_unmade
from safepoint.wayback.replay.work import rows_of

_PIECE: Final = 500


@dataclass(frozen=True)
class Given:
    """Rows of `child` lead by `columns` to rows of `table`, of which its mappers make old values: SQL by old column."""

    child: str
    columns: tuple[str, ...]
    table: str
    parent_columns: tuple[str, ...]
    mapped: Mapping[str, str]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Given:
        """The inverse of `asdict`."""
        words = {name: tuple(data[name]) for name in ("columns", "parent_columns")}
        return cls(**{**data, **words})


def note_given(kept: Connection, catalogue: Catalogue, mapping: WayBack, rows: Path, out: Path) -> tuple[Given, ...]:
    """Write a line for each such row: which of these it is of, its key, what mappers make of it. No file where there is
    none.

    Args:
        kept: the migrated database, which nobody changes any more.
        rows: the stash's lines.
    """
    found = tuple(_given(kept, catalogue, mapping))
    if not found:
        return ()
    lines = 0
    with out.open("w", encoding="utf-8") as file:
        out.chmod(0o600)
        for n, one in enumerate(found):
            keys = _keys(rows, one)
            while piece := list(islice(keys, _PIECE)):
                for key, made in _made(kept, catalogue, one, piece):
                    file.write(json.dumps({"n": n, "key": key, "made": made}) + "\n")
                    lines += 1
        file.flush()
        os.fsync(file.fileno())
    if not lines:
        out.unlink()
    return found if lines else ()


def _given(kept: Connection, catalogue: Catalogue, mapping: WayBack) -> Iterator[Given]:
    for name, read in readers(kept, mapping, catalogue).items():
        rule = mapping.feeds[name]
        mapped = {one.column: f"({one.expression})::{one.type}" for one in rule.columns if _tells(one)}
        for child in sorted(read - mapping.feeds.keys()) if mapped else ():
            for key in catalogue.tables[child].foreign_keys:
                if key.parent == name and not key.period:
                    yield Given(child, key.columns, name, key.parent_columns, mapped)


def _tells(column: ColumnRule) -> bool:
    """Whether a mapper makes the same of the same rows: not where a row keeps what it had."""
    return column.kind == "mapped" and lent(column) is None


def _keys(rows: Path, given: Given) -> Iterator[tuple[str, ...]]:
    seen = set[tuple[str, ...]]()
    with rows.open(encoding="utf-8") as file:
        for one in map(json.loads, file):
            if one["relation"] == given.child:
                key = tuple(one["values"].get(name) for name in given.columns)
                if None not in key and key not in seen:
                    seen.add(key)
                    yield key


def _made(
    kept: Connection, catalogue: Catalogue, given: Given, keys: Sequence[tuple[str, ...]]
) -> list[tuple[list[str], dict[str, str | None]]]:
    """Nothing of rows of which a mapper fails: nobody will know them to be the same."""
    query = f"SELECT w.key, {made_as_json(given)} FROM {joined(catalogue, given, 'w', _wanted(keys))}"
    try:
        with kept.transaction():
            return [(list(key), made) for key, made in ask(kept, query)]
    except psycopg.DatabaseError as error:
        if not is_unmade(error):
            raise
    if len(keys) == 1:
        return []
    half = len(keys) // 2
    return [*_made(kept, catalogue, given, keys[:half]), *_made(kept, catalogue, given, keys[half:])]


def _wanted(keys: Sequence[tuple[str, ...]]) -> str:
    values = ", ".join(f"({literal(json.dumps(key))}::jsonb)" for key in keys)
    return f"(SELECT * FROM (VALUES {values}) v(key))"


def joined(catalogue: Catalogue, given: Given, alias: str, rows: str) -> str:
    """Rows with a `key` (a JSON array) joined with those of the mapped table, and with what mappers make of these,
    `made`: by bare names and `new`, as in a replay. Pure."""
    table = catalogue.tables[given.table]
    same = " AND ".join(
        f"t.{quote(name)} = ({alias}.key ->> {place})::{table.by_name[name].type}"
        for place, name in enumerate(given.parent_columns)
    )
    values = ", ".join(f"{expression} AS {quote(name)}" for name, expression in given.mapped.items())
    inner = f"SELECT m.* FROM (SELECT t.*) new CROSS JOIN LATERAL (SELECT {values} FROM (SELECT new.*) row_) m"
    return f"{rows} {alias} JOIN {rows_of(table)} t ON {same} CROSS JOIN LATERAL ({inner}) made"


def made_as_json(given: Given) -> str:
    """What mappers made, as SQL. Pure."""
    names = ", ".join(map(literal, given.mapped))
    texts = ", ".join(written(f"made.{quote(name)}") for name in given.mapped)
    return f"jsonb_object(ARRAY[{names}]::text[], ARRAY[{texts}]::text[])"
