"""Whose row is it? The way from a table to the user table, along foreign keys, and its values looked up set-wise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection, ask_with
from safepoint.wayback.capture.changes import Change
from safepoint.wayback.mapping.catalogue import meant
from safepoint.wayback.mapping.tenants import all_meant

MAX_PATHS: Final = 4
MAX_STEPS: Final = 5
_IN: Final = ": "
"""Between a tenant's schema and what a user logs in with there."""

# Per foreign key: its columns and what they point at, whether all of them are NOT NULL, its first column's place.
FOREIGN_KEYS = """
SELECT n.nspname || '.' || c.relname, rn.nspname || '.' || r.relname,
       array_agg(a.attname::text ORDER BY k.ord), array_agg(ra.attname::text ORDER BY k.ord),
       bool_and(a.attnotnull), min(a.attnum)
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY k(own, other, ord)
JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.own
JOIN pg_attribute ra ON ra.attrelid = f.confrelid AND ra.attnum = k.other
WHERE f.contype = 'f'
GROUP BY f.oid, 1, 2
"""
# `indkey` counts from 0: a column's place in the primary key is one more, and 0 means that it is not in it.
COLUMNS = """
SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, a.attnum
"""
# Rows are told by the partition that has them; the plan names the table.
PARTITIONS = """
SELECT n.nspname || '.' || c.relname, rn.nspname || '.' || r.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relispartition
"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key from `table` to `parent`, both as `schema.table`."""

    table: str
    parent: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    not_null: bool = True
    place: int = 0


@dataclass(frozen=True)
class Person:
    """A user: what they log in with, and name and e-mail address where the user table has them."""

    label: str
    name: str = ""
    email: str = ""


Path = tuple[ForeignKey, ...]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """What the listing must know of the migrated database: types and primary keys by table, foreign keys."""

    types: Mapping[str, Mapping[str, str]]
    primary_keys: Mapping[str, tuple[str, ...]]
    foreign_keys: tuple[ForeignKey, ...]


def read_schema(connection: Connection) -> Schema:
    """Read it from the catalogue."""
    types: dict[str, dict[str, str]] = defaultdict(dict)
    keys: dict[str, dict[int, str]] = defaultdict(dict)
    for table, column, kind, place in connection.execute(COLUMNS).fetchall():
        types[table][column] = kind
        if place:
            keys[table][place] = column
    foreign = [
        ForeignKey(table, parent, tuple(own), tuple(other), not_null, place)
        for table, parent, own, other, not_null, place in connection.execute(FOREIGN_KEYS).fetchall()
    ]
    primary = {table: tuple(columns[place] for place in sorted(columns)) for table, columns in keys.items()}
    return Schema(types, primary, tuple(foreign))


def paths_to(user_table: str, foreign_keys: Iterable[ForeignKey]) -> dict[str, list[Path]]:
    """The shortest ways from each table to the user table, best first. Pure.

    Among ways of the same length one over NOT NULL columns comes first, then the one whose column was made first:
    an entry's author before its approver.
    """
    into: dict[str, list[ForeignKey]] = defaultdict(list)
    for key in sorted(foreign_keys, key=lambda key: (not key.not_null, key.place, key.columns)):
        if key.table not in (key.parent, user_table):
            into[key.parent].append(key)
    paths: dict[str, list[Path]] = {user_table: [()]}
    layer: list[tuple[str, Path]] = [(user_table, ())]
    for _ in range(MAX_STEPS):
        following: list[tuple[str, Path]] = []
        for parent, path in layer:
            for key in into[parent]:
                found = paths.setdefault(key.table, [])
                if len(found) < MAX_PATHS and key.table not in {step.table for step in path}:
                    found.append((key, *path))
                    following.append((key.table, (key, *path)))
        layer = following
    return paths


class Owners:
    """Finds the users of many rows at once: one query per step of a way, however many rows there are.

    A rollback must not fail for the want of a user's name: what cannot be asked is said in `faults`, and unknown.
    """

    def __init__(
        self, connection: Connection, user_table: str, user_label: str, given: Mapping[str, str] | None = None
    ) -> None:
        self.connection = connection
        self.schema = read_schema(connection)
        self.faults: list[str] = []
        self.user_tables = all_meant(user_table, self.schema.types)
        if not self.user_tables:
            self.faults.append(f"There is no user table {user_table}: no row is traced to a user.")
        columns = self.schema.types[self.user_tables[0]] if self.user_tables else {}
        key = self.schema.primary_keys.get(self.user_tables[0], ()) if self.user_tables else ()
        self.user_label = user_label if user_label in columns else (key[0] if key else "")
        if self.user_tables and not self.user_label:
            self.faults.append(f"The user table {user_table} has neither {user_label} nor a key: no user is named.")
        self.paths = self._paths() if self.user_label else {}
        self._given = self._checked(given or {}) if self.user_label and key else {}
        self._roots: dict[str, str] = dict(connection.execute(PARTITIONS).fetchall()) if self._given else {}

    def _paths(self) -> dict[str, list[Path]]:
        """The ways to whichever user table is nearest: with a schema for each tenant, there may be one in each."""
        found: dict[str, list[Path]] = defaultdict(list)
        for users in self.user_tables:
            for table, paths in paths_to(users, self.schema.foreign_keys).items():
                found[table] = sorted((*found[table], *paths), key=len)[:MAX_PATHS]
        return found

    def _users_of(self, table: str) -> str:
        """The user table that is meant beside this one."""
        schema = table.partition(".")[0]
        return next((one for one in self.user_tables if one.startswith(f"{schema}.")), self.user_tables[0])

    def _checked(self, given: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, query in given.items():
            tables = all_meant(name, self.schema.types)
            if not tables:
                self.faults.append(f"wayback.affected.{name}: there is no such table.")
            found |= dict.fromkeys(tables, query)
        return found

    def of(self, changes: Sequence[Change]) -> list[str | None]:
        """The user of each change, in order; None where no way leads to one.

        The plan's own SQL comes first. What the changes themselves say about a parent row comes before the database:
        it may be deleted there.
        """
        known = _Known(changes)
        users: list[str | None] = [None] * len(changes)
        tables = [self._roots.get(change.table, change.table) for change in changes]
        for table in self._given.keys() & set(tables):
            places = [place for place, name in enumerate(tables) if name == table]
            for place, user in zip(places, self._by_query(table, [changes[p] for p in places], known), strict=True):
                users[place] = user
        for rank in range(MAX_PATHS):
            groups: dict[Path, list[int]] = defaultdict(list)
            for place, change in enumerate(changes):
                paths = self.paths.get(change.table, [])
                if users[place] is None and rank < len(paths):
                    groups[paths[rank]].append(place)
            for path, places in groups.items():
                found = self._along(path, [changes[place] for place in places], known)
                for place, user in zip(places, found, strict=True):
                    users[place] = user
        return users

    def _by_query(self, table: str, changes: Sequence[Change], known: _Known) -> list[str | None]:
        """The plan's SQL, asked of all rows at once; they stand in it as they were captured."""
        types = self.schema.types[table]
        names = list(types)
        rows = [_row(change) for change in changes]
        query = _given_query(types, self._given[table])
        try:
            found = ask_with(self.connection, query, [[row.get(name) for row in rows] for name in names])
        except psycopg.Error as error:
            said = error.diag.message_primary or str(error)
            self.faults.append(f"wayback.affected.{table.removeprefix('public.')} cannot be asked: {said}")
            del self._given[table]
            return [None] * len(changes)
        at: list[Key | None] = [None if row[0] is None else (str(row[0]),) for row in found]
        users = self._users_of(table)
        return self._labels(users, self.schema.primary_keys.get(users, ()), at, known)

    def _labels(self, users: str, by: tuple[str, ...], keys: Sequence[Key | None], known: _Known) -> list[str | None]:
        """What the users with these keys log in with; where there are several user tables, with the schema before it:
        whoever is called the same in another one is somebody else."""
        before = f"{users.partition('.')[0]}{_IN}" if len(self.user_tables) > 1 else ""
        found = self._look_up(users, by, (self.user_label,), keys, known)
        return [None if label is None else f"{before}{label[0]}" for label in found]

    def people(self, labels: Sequence[str], email: str | None, names: Sequence[str]) -> dict[str, Person]:
        """What the user tables know of these users beyond their label."""
        if not self.user_label or not labels:
            return {}
        if len(self.user_tables) == 1:
            return self._people(self.user_tables[0], labels, email, names)
        found: dict[str, Person] = {}
        for users in self.user_tables:
            before = f"{users.partition('.')[0]}{_IN}"
            own = [label.removeprefix(before) for label in labels if label.startswith(before)]
            there = self._people(users, own, email, names) if own else {}
            found |= {before + one: replace(person, label=before + one) for one, person in there.items()}
        return found

    def _people(self, users: str, labels: Sequence[str], email: str | None, names: Sequence[str]) -> dict[str, Person]:
        columns = self.schema.types[users]
        shown = [name for name in names if name in columns]
        name = sql.SQL("concat_ws(' ', {})").format(
            sql.SQL(", ").join(sql.SQL("nullif({}::text, '')").format(sql.Identifier(one)) for one in shown)
        )
        query = sql.SQL("SELECT {label}::text, {name}, {email} FROM {table} WHERE {label}::text = ANY($1)").format(
            label=sql.Identifier(self.user_label),
            name=name if shown else sql.SQL("''"),
            email=sql.SQL("coalesce({}::text, '')").format(sql.Identifier(email or ""))
            if email in columns
            else sql.SQL("''"),
            table=sql.Identifier(*users.split(".", 1)),
        )
        rows = ask_with(self.connection, query, [list(labels)])
        return {label: Person(label, _one_line(whole), _one_line(mail)) for label, whole, mail in rows}

    def _along(self, path: Path, changes: Sequence[Change], known: _Known) -> list[str | None]:
        if not path:
            return self._own_label(changes, known)
        at = [self._start(change, path[0].columns, known) for change in changes]
        for step, following in pairwise(path):
            at = self._look_up(step.parent, step.parent_columns, following.columns, at, known)
        last = path[-1]
        return self._labels(last.parent, last.parent_columns, at, known)

    def _start(self, change: Change, columns: tuple[str, ...], known: _Known) -> Key | None:
        """The row's own foreign key; of a deleted row the log tells the key alone, but an earlier change may tell."""
        row = _row(change)
        found = _values(row, columns)
        if found is None and change.action == "delete":
            key = self.schema.primary_keys.get(change.table, ())
            named = _values(row, key) if key else None
            found = None if named is None else _values(known.row(change.table, key, named), columns)
        return found

    def _own_label(self, changes: Sequence[Change], known: _Known) -> list[str | None]:
        found: list[str | None] = [None] * len(changes)
        for users in {change.table for change in changes}:
            key = self.schema.primary_keys.get(users, ())
            places = [place for place, change in enumerate(changes) if change.table == users]
            at = [_values(_row(changes[place]), key) if key else None for place in places]
            for place, label in zip(places, self._labels(users, key, at, known), strict=True):
                found[place] = label
        return found

    def _look_up(
        self, table: str, by: tuple[str, ...], wanted: tuple[str, ...], keys: Sequence[Key | None], known: _Known
    ) -> list[Key | None]:
        """The wanted columns of the rows with these keys."""
        found: dict[Key, Key | None] = {}
        for key in {key for key in keys if key is not None}:
            values = known.row(table, by, key)
            if all(column in values for column in wanted):
                found[key] = _values(values, wanted)
        missing = sorted({key for key in keys if key is not None and key not in found})
        if missing:
            found |= self._ask(table, by, wanted, missing)
        return [None if key is None else found.get(key) for key in keys]

    def _ask(
        self, table: str, by: tuple[str, ...], wanted: tuple[str, ...], keys: Sequence[Key]
    ) -> dict[Key, Key | None]:
        types = self.schema.types[table]
        aliases = [f"k{number}" for number in range(len(by))]
        query = sql.SQL("SELECT {}, {} FROM unnest({}) AS k({}) JOIN {} t ON {}").format(
            sql.SQL(", ").join(sql.Identifier("k", alias) for alias in aliases),
            sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in wanted),
            _arrays(len(by)),
            sql.SQL(", ").join(sql.Identifier(alias) for alias in aliases),
            sql.Identifier(*table.split(".", 1)),
            sql.SQL(" AND ").join(
                # The type's name comes from format_type, which quotes what must be quoted.
                sql.SQL("t.{} = k.{}::{}").format(
                    sql.Identifier(column),
                    sql.Identifier(alias),
                    sql.SQL(types[column]),
                )
                for column, alias in zip(by, aliases, strict=True)
            ),
        )
        columns = [list(values) for values in zip(*keys, strict=True)]
        answer: dict[Key, Key | None] = {}
        for row in ask_with(self.connection, query, columns):
            values = row[len(by) :]
            answer[tuple(row[: len(by)])] = None if None in values else tuple(values)
        return answer


def _one_line(text: str) -> str:
    """As it may stand in the header of a mail: a line end in somebody's name would begin another one (Bcc:)."""
    return " ".join(text.split())


def unanswerable(connection: Connection, given: Mapping[str, str]) -> tuple[str, ...]:
    """What of the plan's own SQL could not be asked of a migrated database, a sentence each: it is asked of no row."""
    types = read_schema(connection).types
    faults = []
    for name, query in given.items():
        table = meant(name, types)
        if table is None:
            faults.append(f"wayback.affected.{name}: there is no such table.")
            continue
        try:
            ask_with(connection, _given_query(types[table], query), [[] for _ in types[table]])
        except psycopg.Error as error:
            faults.append(f"wayback.affected.{name} cannot be asked: {error.diag.message_primary or error}")
    return tuple(faults)


def _given_query(types: Mapping[str, str], given: str) -> sql.Composed:
    """The plan's SQL over rows that are given as an array of each column's values, as text, in the order of `types`."""
    return sql.SQL("SELECT ({given})::text FROM (SELECT {typed} FROM unnest({arrays}) u({aliases})) row_").format(
        given=sql.SQL(given),
        typed=sql.SQL(", ").join(
            sql.SQL("{}::{} AS {}").format(sql.Identifier(f"c{n}"), sql.SQL(kind), sql.Identifier(name))
            for n, (name, kind) in enumerate(types.items())
        ),
        arrays=_arrays(len(types)),
        aliases=sql.SQL(", ").join(sql.Identifier(f"c{n}") for n in range(len(types))),
    )


class _Known:
    """What a batch of changes says about rows, found by any of their columns."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._by_table: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            self._by_table[change.table].append(change)
        self._indexes: dict[tuple[str, tuple[str, ...]], dict[Key, dict[str, Any]]] = {}

    def row(self, table: str, by: tuple[str, ...], key: Key) -> Mapping[str, Any]:
        index = self._indexes.get((table, by))
        if index is None:
            index = self._indexes[table, by] = {}
            for change in self._by_table.get(table, ()):
                values = _row(change)
                named = _values(values, by)
                if named is not None:
                    index.setdefault(named, {}).update(values)
        return index.get(key, {})


def _row(change: Change) -> dict[str, Any]:
    """What is known of a row: the old values, over them the new ones that were sent."""
    both = {**change.old, **change.new}
    return {name: value for name, value in both.items() if value is None or isinstance(value, str)}


def _values(row: Mapping[str, Any], columns: tuple[str, ...]) -> Key | None:
    values = tuple(row.get(column) for column in columns)
    return None if None in values else values  # type: ignore[return-value]  # no None is left in it


def _arrays(count: int) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(f"${place}::text[]") for place in range(1, count + 1))
