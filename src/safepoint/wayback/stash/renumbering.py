"""Rows that the migration makes, under the numbers that it has given them this time.

Who adds or deletes rows on the old release changes what the next migration makes of them, and so what numbers (or
UUIDs) its rows get. A stashed line has those of then: where another row has it now, or none, the row is looked for by
what it was (`made_rows`), and the line names that one. Where none is like it, or several are, the line is told; but
what was deleted is gone already where no row is of the rows that it was of (`_mark_gone`). Rows of people's own whose
number the migration has given to one of its rows get the next number that is free.

`pg_temp.sp_lines` holds the lines, `pg_temp.sp_made` what the rows were: see `attaching`. A line of a row that people
made is marked as `own`, one of a row that is not found as `lost`: another row may have that number by now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table
from safepoint.wayback.mapping.expressions import ID_TABLES, literal, quote, written
from safepoint.wayback.mapping.loose import numbers_in
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash import loose_names
from safepoint.wayback.stash.known_by import moments_of_making, next_level, said_now, stage_types
from safepoint.wayback.stash.named_by import (
    Naming,
    follow_namings,
    known_alone,
    named_since,
    namings,
    nobody_names,
    stage_namings,
)
from safepoint.wayback.stash.numbers import UNFOUND, UNKNOWN, alike, given_out, numbered, unfound
from safepoint.wayback.stash.standing import place_beside
from safepoint.wayback.stash.stash import Stash

_STAGE: Final = """
CREATE TEMP TABLE sp_made (
    place int4, relation text, key text, was jsonb, by jsonb, now text, own boolean NOT NULL DEFAULT false,
    gone boolean NOT NULL DEFAULT false, alone boolean NOT NULL DEFAULT false, level int4) ON COMMIT DROP;
CREATE TEMP TABLE sp_line (place int4, line jsonb) ON COMMIT DROP;
CREATE TEMP TABLE sp_moved (relation text, col text, was text, now text) ON COMMIT DROP;
"""
_FILLED: Final = """
INSERT INTO sp_made (place, relation, key, was, by, alone)
SELECT place, line ->> 'relation', line ->> 'key', nullif(line -> 'was', 'null'), nullif(line -> 'by', 'null'),
       coalesce((line ->> 'alone')::boolean, false)
FROM sp_line
"""
_OWN: Final = '{"as": "own"}'
_LOST: Final = '{"as": "lost"}'
_GONE: Final = "made no more"


def renumber(
    connection: Connection,
    catalogue: Catalogue,
    made: Collection[str],
    found: Sequence[Stash],
    anew: Collection[str] = (),
    parents_first: Callable[[Iterable[str]], Sequence[str]] = sorted,
) -> int:
    """Have the lines name rows by the keys that they have now; gives how many deletions are done already.

    Args:
        made: the tables that this launch's migration made. Those that an earlier one's made, and the old release has
            by now, are as good: they have other numbers, too.
        found: the stashes, oldest first.
        anew: those of them whose rows it makes of what mappers gave the old release. Their own lines stay as they are,
            see `standing`; what refers to them does not.
    """
    run(connection, _STAGE)
    with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_line FROM STDIN") as copy:
        for place, one in enumerate(found):
            if one.made is not None:
                with one.made.open(encoding="utf-8") as file:
                    for line in file:
                        copy.write_row((place, line))
    loose_names.stage(connection, catalogue, found)
    if not run(connection, _FILLED):
        return 0
    run(connection, "CREATE INDEX ON pg_temp.sp_made (relation, place, key)")
    run(connection, "ANALYZE pg_temp.sp_made")
    known = {row[0] for row in ask(connection, "SELECT DISTINCT relation FROM pg_temp.sp_made")}
    made = parents_first({*made, *(known & catalogue.tables.keys())})
    stage_types(connection, catalogue, found, [catalogue.tables[name] for name in made if name in known])
    naming = namings(catalogue, known, made)
    stage_namings(connection, catalogue, naming)
    run(connection, "SET LOCAL enable_nestloop = off")  # nobody can estimate how many rows what stands in JSON finds
    done = 0
    for name in made:
        table = catalogue.tables[name]
        if name in known and given_out(table, table.key):
            rows = _Renumbering(connection, catalogue, table, made, [one for one in naming if one.parent == name])
            done += rows.follow(len(found)) if name in anew else rows.run(len(found))
    run(connection, "SET LOCAL enable_nestloop TO DEFAULT")
    return done


class _NoNumber(Exception):
    """What a sequence gives out is given out already."""


class _Renumbering:
    """Of one table's rows."""

    def __init__(
        self,
        connection: Connection,
        catalogue: Catalogue,
        table: Table,
        made: Collection[str],
        naming: Sequence[Naming],
    ) -> None:
        """`made` are the tables that the migration made, `naming` the columns that name this one's rows."""
        self.connection, self.catalogue, self.table = connection, catalogue, table
        self.made, self.naming = made, naming
        self.key = table.by_name[table.key[0]]
        self.name = literal(table.name)
        self.moments = moments_of_making(connection, table)

    def run(self, places: int) -> int:
        """Stash by stash: a later one's rows may be what an earlier one's were re-attached to. Gives how many deletions
        were left out, for they are done."""
        done = 0
        self._mark_own()
        for place in range(places):
            if ask(self.connection, f"SELECT EXISTS (SELECT FROM pg_temp.sp_made m WHERE {self._of(place)})")[0][0]:
                self._gather(place)
                self._find_all(place)
                self._mark_gone(place)
                done += self._leave_out(place)
                self._name_lines(place)
                run(self.connection, "DROP TABLE pg_temp.sp_prior")
        if numbered(self.table, self.table.key):
            self._move_own(places)
        self._name_all_children(places)
        return done

    def follow(self, places: int) -> int:
        """Of a table that mappers read: what refers to its rows, and of its own lines those that come back though
        another row has their number. Gives how many deletions were left out: none."""
        run(self.connection, f"UPDATE pg_temp.sp_made SET own = true WHERE relation = {self.name} AND was IS NULL")
        self._gather(0)
        for place in range(places):
            self._find_all(place)
            self._mark_gone(place)
            if not any(self._varies(one.parent) for one in self.table.foreign_keys):
                place_beside(self.connection, self.table, self.key, place)
        run(self.connection, "DROP TABLE pg_temp.sp_prior")
        self._name_all_children(places)
        return 0

    def _name_all_children(self, places: int) -> None:
        for place in range(places):
            self._name_children(place)
            loose_names.follow(self.connection, self.table, place)

    def _of(self, place: int) -> str:
        return f"m.relation = {self.name} AND m.place = {place}"

    def _mark_own(self) -> None:
        """What people made since a launch is said to be so by the stash of that one."""
        key = f"l.line -> 'key' ->> {literal(self.key.name)}"
        run(
            self.connection,
            f"UPDATE pg_temp.sp_lines l SET line = l.line || '{_OWN}' WHERE l.line ->> 'relation' = {self.name} "
            f"AND (l.line ->> 'action' = 'insert' OR EXISTS (SELECT FROM pg_temp.sp_made m "
            f"WHERE m.relation = {self.name} AND m.place = l.place AND m.key = {key} AND m.was IS NULL))",
        )
        run(self.connection, f"DELETE FROM pg_temp.sp_made WHERE relation = {self.name} AND was IS NULL")

    def _gather(self, place: int) -> None:
        """What earlier stashes say of each row, as it was re-attached."""
        run(
            self.connection,
            f"CREATE TEMP TABLE sp_prior ON COMMIT DROP AS "
            f"SELECT l.line -> 'key' ->> {literal(self.key.name)} AS key, l.line ? 'as' AS own, "
            f"jsonb_object_agg(v.key, {said_now(self.catalogue, self.table)} "
            f"ORDER BY l.place, (l.line ->> 'commit_lsn')::pg_lsn) AS vals "
            f"FROM pg_temp.sp_lines l, jsonb_each(l.line -> 'values') v "
            f"WHERE l.line ->> 'relation' = {self.name} AND l.line -> 'key' <> '{{}}' AND l.place < {place} "
            f"AND l.line ->> 'as' IS DISTINCT FROM 'lost' GROUP BY 1, 2",
        )
        run(self.connection, "ANALYZE pg_temp.sp_prior")

    def _find_all(self, place: int) -> None:
        """Parents before what is below them in the same table."""
        level = 0
        while next_level(self.connection, self.table, place, level):
            self._find(place, level)
            level += 1

    def _find(self, place: int, level: int) -> None:
        """People's own by what earlier stashes say; the migration's by their keys, then by what they were."""
        of, columns = f"{self._of(place)} AND m.level = {level} AND m.now IS NULL", self._compared()
        number = f"t.{quote(self.key.name)}"
        rows = f"{rows_of(self.table)} t LEFT JOIN pg_temp.sp_prior p ON NOT p.own AND p.key = {number}::text"
        run(
            self.connection,
            f"UPDATE pg_temp.sp_made m SET now = m.key, own = true FROM pg_temp.sp_prior p "
            f"WHERE {of} AND p.own AND p.key = m.key AND {self._same(columns, None)}",
        )
        same, alone, text = self._same(columns, "t"), known_alone(self.table, self.made), f"{number}::text"
        unnamed = nobody_names(self.catalogue, self.naming, number)
        follow_namings(self.connection, f"{of} AND m.by <> '[]'", rows, number, same)
        certain = f"({alone} OR {named_since()} AND {unnamed})"
        # A UUID is given out but once.
        same = f"{same} AND {certain}" if numbered(self.table, self.table.key) else "true"
        run(
            self.connection,
            f"UPDATE pg_temp.sp_made m SET now = m.key FROM {rows} "
            f"WHERE {of} AND {number} = m.key::{self.key.type} AND {same}",
        )
        if columns and ask(self.connection, f"SELECT EXISTS (SELECT FROM pg_temp.sp_made m WHERE {of})")[0][0]:
            self._look_for(place, of, columns, "p.key", "pg_temp.sp_prior p", "p.own", own=True)
            self._look_for(place, f"{of} AND {alone}", columns, text, rows, "true", own=False)
            nobodys = f"{of} AND NOT {alone} AND {named_since()}"
            self._look_for(place, nobodys, columns, text, rows, unnamed, own=False)

    def _look_for(
        self, place: int, of: str, columns: Sequence[Column], key: str, rows: str, which: str, *, own: bool
    ) -> None:
        """By all that a row was, where that is said of one alone, and one alone is so that is no other's."""
        names = [literal(one.name) for one in columns]
        was = f"md5(ARRAY[{', '.join(f'm.was ->> {name}' for name in names)}]::text)"
        now = f"md5(ARRAY[{', '.join(self._value(one, None if own else 't') for one in columns)}]::text)"
        told = " OR ".join(f"m.was ->> {name} IS NOT NULL" for name in names)
        whole = " AND ".join(f"m.was ? {name}" for name in names)
        run(
            self.connection,
            f"WITH meant AS (SELECT {was} AS digest, min(m.key) AS key FROM pg_temp.sp_made m "
            f"WHERE {of} AND ({told}) AND {whole} GROUP BY 1 HAVING count(*) = 1), "
            f"there AS (SELECT {now} AS digest, min({key}) AS key FROM {rows} "
            f"WHERE {which} AND NOT EXISTS (SELECT FROM pg_temp.sp_made m WHERE {self._of(place)} AND m.own = {own} "
            f"AND m.now = {key}) GROUP BY 1 HAVING count(*) = 1) "
            f"UPDATE pg_temp.sp_made m SET now = there.key, own = {own} FROM meant JOIN there USING (digest) "
            f"WHERE {of} AND m.key = meant.key",
        )

    def _mark_gone(self, place: int) -> None:
        """Rows of other rows, which say what they are: a link, by the two that it links; a row of one other row, by
        that one. Where none is of those, the migration did not make it, whatever else it may say now."""
        by = [
            one.columns[0]
            for one in self.table.foreign_keys
            if len(one.columns) == 1 and not one.period and not self._varies(one.parent)
        ]
        uniques = (one.columns for one in self.table.uniques if one.plain and {*one.columns} != {self.key.name})
        sets = [one for one in uniques if {*one} <= {*by}] or ([tuple(by)] if len({*by}) == 1 else [])
        for names in sets:
            columns = [self.table.by_name[name] for name in names]
            told = [f"m.was ->> {literal(one.name)}" for one in columns]
            given = " AND ".join(f"{one} IS NOT NULL AND {one} <> '{UNKNOWN}'" for one in told)
            same, own = (
                " AND ".join(f"{self._value(one, row)} = {value}" for one, value in zip(columns, told, strict=True))
                for row in ("t", None)
            )
            number = f"t.{quote(self.key.name)}::text"
            rows = f"{rows_of(self.table)} t LEFT JOIN pg_temp.sp_prior p ON NOT p.own AND p.key = {number}"
            run(
                self.connection,
                f"UPDATE pg_temp.sp_made m SET gone = true WHERE {self._of(place)} AND m.now IS NULL AND {given} "
                f"AND NOT EXISTS (SELECT FROM {rows} WHERE {same}) "
                f"AND NOT EXISTS (SELECT FROM pg_temp.sp_prior p WHERE p.own AND {own})",
            )

    def _leave_out(self, place: int) -> int:
        """Deletions of rows that the migration did not make this time."""
        return run(
            self.connection,
            f"DELETE FROM pg_temp.sp_lines l USING pg_temp.sp_made m WHERE {self._of(place)} AND m.gone "
            f"AND l.place = m.place AND l.line ->> 'relation' = m.relation AND l.line ->> 'action' = 'delete' "
            f"AND l.line -> 'key' ->> {literal(self.key.name)} = m.key AND NOT l.line ? 'as'",
        )

    def _compared(self) -> list[Column]:
        """By which columns a row is known: not by its number, nor by when it was made."""
        return [one for one in self.table.written if one.name not in {self.key.name, *self.moments}]

    def _varies(self, parent: str) -> bool:
        """Whether ids of this table are others each time, whatever they name."""
        return parent == self.table.name or self.catalogue.tables[parent].relation in ID_TABLES

    def _same(self, columns: Sequence[Column], row: str | None) -> str:
        """Whether the row, as it is re-attached by then, is what one was of which `m` tells."""
        names = [(literal(one.name), self._value(one, row)) for one in columns]
        equal = (f"(NOT m.was ? {name} OR {now} IS NOT DISTINCT FROM m.was ->> {name})" for name, now in names)
        return " AND ".join(equal) or "true"

    def _value(self, column: Column, row: str | None) -> str:
        name, there = literal(column.name), "NULL" if row is None else written(f"{row}.{quote(column.name)}")
        return f"CASE WHEN p.vals ? {name} THEN p.vals ->> {name} ELSE {there} END"

    def _move_own(self, places: int) -> None:
        """People's own rows whose number one of the migration's has by now get the next that the sequence gives out.
        Where it gives out none, they are told later on."""
        self._gather(places)
        key = literal(self.key.name)
        with suppress(_NoNumber, psycopg.errors.SequenceGeneratorLimitExceeded), self.connection.transaction():
            run(
                self.connection,
                f"INSERT INTO pg_temp.sp_moved SELECT {self.name}, {literal(self.key.name)}, s.key, "
                f"nextval({literal(str(self.key.sequence))})::text FROM pg_temp.sp_prior s "
                f"JOIN {rows_of(self.table)} t ON t.{quote(self.key.name)} = s.key::{self.key.type} "
                f"WHERE s.own AND NOT ({alike(self.table, self.table.key)}) AND NOT EXISTS ("
                f"SELECT FROM pg_temp.sp_lines l WHERE l.line ->> 'relation' = {self.name} AND l.line ->> 'as' = 'own' "
                f"AND l.line ->> 'action' = 'delete' AND l.line -> 'key' ->> {literal(self.key.name)} = s.key)",
            )
            twice = (
                f"SELECT FROM pg_temp.sp_moved v WHERE v.relation = {self.name} AND (EXISTS (SELECT FROM "
                f"pg_temp.sp_prior p WHERE p.own AND p.key = v.now) OR EXISTS (SELECT FROM {rows_of(self.table)} t "
                f"WHERE t.{quote(self.key.name)} = v.now::{self.key.type}))"
            )
            if ask(self.connection, f"SELECT EXISTS ({twice})")[0][0]:
                raise _NoNumber  # somebody gives out numbers by hand
        run(self.connection, "DROP TABLE pg_temp.sp_prior")
        run(
            self.connection,
            # Where an earlier move had given it another number, a stash knows it by that one.
            f"INSERT INTO pg_temp.sp_made (place, relation, key, now, own) "
            f"SELECT DISTINCT l.place, v.relation, v.was, v.was, true "
            f"FROM pg_temp.sp_moved v JOIN pg_temp.sp_lines l ON l.line ->> 'relation' = v.relation "
            f"AND l.line -> 'key' ->> {key} = v.was AND l.line ->> 'as' = 'own' WHERE v.relation = {self.name} "
            f"AND NOT EXISTS (SELECT FROM pg_temp.sp_made m WHERE m.relation = v.relation AND m.place = l.place "
            f"AND m.own AND m.now = v.was)",
        )
        run(
            self.connection,
            f"UPDATE pg_temp.sp_made m SET now = v.now FROM pg_temp.sp_moved v "
            f"WHERE v.relation = {self.name} AND m.relation = v.relation AND m.own AND m.now = v.was",
        )
        run(
            self.connection,
            f"UPDATE pg_temp.sp_lines l SET line = {_renamed(literal(self.key.name), ('key', 'values', 'was'))} "
            f"FROM pg_temp.sp_moved m WHERE m.relation = {self.name} AND l.line ->> 'relation' = m.relation "
            f"AND l.line ->> 'as' = 'own' AND l.line -> 'key' ->> {key} = m.was",
        )

    def _name_lines(self, place: int) -> None:
        key = literal(self.key.name)
        self._rewrite(
            f"{_renamed(key, ('key', 'values', 'was'))} || CASE WHEN m.own THEN '{_OWN}' ELSE '{{}}' END::jsonb",
            f"l.line || jsonb_build_object('bad', {literal(UNFOUND)}) || '{_LOST}'",
            f"{self._of(place)} AND l.place = m.place AND l.line ->> 'relation' = m.relation "
            f"AND l.line -> 'key' ->> {key} = m.key AND NOT l.line ? 'as' AND (m.own OR m.now IS DISTINCT FROM m.key)",
        )

    def _name_children(self, place: int) -> None:
        """What refers to them, in lines and in what rows of other tables were."""
        changed = f"{self._of(place)} AND m.now IS DISTINCT FROM m.key"
        now = f"to_jsonb(coalesce(m.now, CASE WHEN m.gone THEN '{_GONE}' ELSE '{UNKNOWN}' END))"
        for child in self.catalogue.tables.values():
            for own, owner in numbers_in(self.catalogue, child).items():
                if owner != self.table.name:
                    continue
                column, name = literal(own), literal(child.name)
                met = f"{changed} AND l.place = m.place AND l.line ->> 'relation' = {name}"
                self._rewrite(
                    _renamed(column, ("key", "values")),
                    f"l.line || jsonb_build_object('bad', {literal(unfound(self.table))})",
                    f"{met} AND l.line -> 'values' ->> {column} = m.key",
                )
                run(
                    self.connection,
                    f"UPDATE pg_temp.sp_lines l SET line = jsonb_set(l.line, ARRAY['was', {column}], {now}) "
                    f"FROM pg_temp.sp_made m WHERE {met} AND l.line -> 'was' ->> {column} = m.key",
                )
                run(
                    self.connection,
                    f"UPDATE pg_temp.sp_made c SET was = jsonb_set(c.was, ARRAY[{column}], {now}) "
                    f"FROM pg_temp.sp_made m WHERE {changed} AND c.place = m.place AND c.relation = {name} "
                    f"AND c.was ->> {column} = m.key",
                )

    def _rewrite(self, found: str, lost: str, which: str) -> None:
        run(
            self.connection,
            f"UPDATE pg_temp.sp_lines l SET line = CASE WHEN m.now IS NULL THEN {lost} ELSE {found} END "
            f"FROM pg_temp.sp_made m WHERE {which}",
        )


def _renamed(column: str, places: Sequence[str]) -> str:
    """A line `l` with `m.now` for that column, wherever it has it."""
    line = "l.line"
    for place in places:
        has = f"coalesce({line} -> '{place}' ? {column}, false)"
        line = f"CASE WHEN {has} THEN jsonb_set({line}, ARRAY['{place}', {column}], to_jsonb(m.now)) ELSE {line} END"
    return line
