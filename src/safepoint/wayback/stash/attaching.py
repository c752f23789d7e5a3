"""The work of a re-attachment: which stashed value may be set, which row written, and what has to be told instead.

A value is set where the row still is what it was when it was stashed, or where the column has its default still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Final

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.expressions import ID_TABLES, literal
from safepoint.wayback.mapping.mapping import NOT_CARRIED
from safepoint.wayback.replay.merging import set_further, silence, unsilence
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash import standing, together
from safepoint.wayback.stash.column_defaults import ColumnDefaults, Defaults
from safepoint.wayback.stash.deletions import delete
from safepoint.wayback.stash.djangos_own import attach_own, name_again
from safepoint.wayback.stash.exclusions import Pair, broken, to_leave
from safepoint.wayback.stash.left import MOVED, Reattached, write_left, write_moved
from safepoint.wayback.stash.loose_names import parents, tell_lost
from safepoint.wayback.stash.narrower import tell_narrowed
from safepoint.wayback.stash.renumbering import renumber
from safepoint.wayback.stash.single_values import SingleValues
from safepoint.wayback.stash.spelling import spell_alike
from safepoint.wayback.stash.stash import Stash, StashedTable
from safepoint.wayback.stash.whole_rows import WRITTEN, WholeRows, orphans

# Triggers are silent: what they did to other rows when the values were written has been carried or stashed itself.
SETTINGS: Final = """
SET LOCAL session_replication_role = replica;
SET LOCAL row_security = off;
"""
STAGE: Final = """
CREATE TEMP TABLE sp_lines (place int4, line jsonb, grp int8) ON COMMIT DROP;
CREATE TEMP TABLE sp_left (relation text, key jsonb, col text, reason text, value text) ON COMMIT DROP;
CREATE TEMP TABLE sp_later (n int8) ON COMMIT DROP;
CREATE TEMP TABLE sp_taken (relation text, vals jsonb) ON COMMIT DROP;
"""
# Rows that were stashed before their table, or their partition, was emptied went with it.
EMPTIED: Final = """
DELETE FROM sp_lines l USING sp_lines t
WHERE t.line ->> 'action' = 'truncate' AND l.line ->> 'action' <> 'truncate'
  AND t.line ->> 'relation' IN (l.line ->> 'relation', l.line ->> 'leaf')
  AND (l.place, (l.line ->> 'commit_lsn')::pg_lsn) < (t.place, (t.line ->> 'commit_lsn')::pg_lsn)
"""
# Of several stashes the newest says what a row is; of a row's columns each has its newest value. A row that was put
# aside when it was new, and changed by a later launch that had it again, is new still. Several may have one number:
# people's own, and the migration's (`renumbering`). Who writes a key otherwise deletes the one and inserts the other.
MERGE: Final = """
CREATE TEMP TABLE sp_stash ON COMMIT DROP AS
SELECT row_number() OVER () AS n, relation, key, last.place, last.witness, last.mapped, last.was, last.whole,
       merged.vals, merged.grp, merged.bad,
       CASE WHEN last.action = 'update' AND (kind = 'own' OR last.whole AND merged.new) THEN 'insert'
            ELSE last.action END AS action
FROM (SELECT DISTINCT line ->> 'relation' AS relation, line -> 'key' AS key, coalesce(line ->> 'as', '') AS kind
      FROM sp_lines
      WHERE line ->> 'action' <> 'truncate' AND line -> 'key' <> '{}') k
CROSS JOIN LATERAL (
    SELECT l.place, l.line ->> 'action' AS action, l.line ->> 'witness' AS witness,
           nullif(l.line -> 'mapped', 'null') AS mapped, nullif(l.line -> 'was', 'null') AS was,
           coalesce((l.line ->> 'whole')::boolean, false) AS whole
    FROM sp_lines l
    WHERE l.line ->> 'relation' = k.relation AND l.line -> 'key' = k.key AND coalesce(l.line ->> 'as', '') = kind
    ORDER BY l.place DESC, (l.line ->> 'commit_lsn')::pg_lsn DESC, l.line ->> 'action' <> 'delete' DESC LIMIT 1) last
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(v.key, v.value ORDER BY l.place, (l.line ->> 'commit_lsn')::pg_lsn,
                                     l.line ->> 'action' <> 'delete')
                    FILTER (WHERE v.key IS NOT NULL), '{}') AS vals,
           coalesce(bool_or(l.line ->> 'whole' = 'true' AND l.line ->> 'action' = 'insert'), false) AS new,
           min(l.grp) AS grp, max(l.line ->> 'bad') AS bad
    FROM sp_lines l LEFT JOIN LATERAL jsonb_each(l.line -> 'values') v ON true
    WHERE l.line ->> 'relation' = k.relation AND l.line -> 'key' = k.key
      AND coalesce(l.line ->> 'as', '') = kind) merged
WHERE NOT (kind = 'own' AND last.action = 'delete')
"""
# Rows without a key, counted by all their values: those that are alike are as good as one another. Where one was
# changed or deleted that the stash does not have, nobody knows which it is here, and nothing of the table is attached.
KEYLESS: Final = """
INSERT INTO sp_stash
SELECT (SELECT coalesce(max(n), 0) FROM sp_stash) + row_number() OVER (), relation, '{}', place, NULL, NULL, NULL, true,
       vals, grp, CASE WHEN min(net) OVER (PARTITION BY relation) < 0 THEN
                       'the table has no key by which the row could be found' END,
       CASE WHEN net < 0 THEN 'delete' ELSE 'insert' END
FROM (SELECT line ->> 'relation' AS relation, line -> 'values' AS vals, max(place) AS place, min(grp) AS grp,
             sum(CASE line ->> 'action' WHEN 'delete' THEN -1 ELSE 1 END)::int AS net
      FROM sp_lines WHERE line ->> 'action' <> 'truncate' AND line -> 'key' = '{}' GROUP BY 1, 2) l
CROSS JOIN generate_series(1, abs(net))
"""


class _InPart(Exception):
    """Of transactions that come back whole or not at all only a part could be re-attached."""

    def __init__(self, torn: together.Torn, taken: Sequence[tuple[object, ...]]) -> None:
        super().__init__(*torn)
        self.torn, self.taken = torn, taken


class _Broken(Exception):
    """A rule, by its name, that what was written does not keep, and by which rows."""

    def __init__(self, name: str, pairs: Sequence[Pair]) -> None:
        super().__init__(name)
        self.why, self.rows = f"{name} would not hold", to_leave(pairs)


class Attaching:
    """One re-attachment, inside its transaction."""

    def __init__(
        self,
        connection: Connection,
        made: Collection[str],
        new: Catalogue,
        found: Sequence[Stash],
        defaults: Defaults,
    ) -> None:
        """`made` are the tables that this launch's migration made."""
        self.connection, self.made, self.new, self.found = connection, made, new, found
        self.defaults = ColumnDefaults(connection, new, defaults)
        self._begin(careful=False)

    def _begin(self, *, careful: bool) -> None:
        """`careful`: what was deleted goes at the end, as far as nothing refers to it then; no row is written before
        one that it refers to."""
        self.careful = careful
        self._coming: list[str] = []
        self.values = self.rows = self.already = 0
        self.tables: Counter[str] = Counter()
        self._changed: dict[str, Set[str]] = {}
        self._lost: set[str] = set()

    def run(self, out: Path) -> Reattached:
        """All of it; what could not be re-attached stands in the file `out`."""
        run(connection := self.connection, STAGE)
        with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_lines (place, line) FROM STDIN") as copy:
            for place, one in enumerate(self.found):
                with one.rows.open(encoding="utf-8") as file:
                    for line in file:
                        copy.write_row((place, line))
        together.mark(connection)
        run(connection, "CREATE INDEX ON pg_temp.sp_lines ((line ->> 'relation'), (line -> 'key'))")
        run(connection, "ANALYZE pg_temp.sp_lines")
        run(connection, EMPTIED)
        self._raise_sequences()
        standing.stage(connection, self.new, self.found)
        made = [name for name in self.made if name in self.new.tables]
        read = [name for name in made if self._read(name)]
        done = renumber(connection, self.new, made, self.found, read, partial(self._parents_first, loosely=True))
        for name, told in self._stashed().items():
            if self._is_found(name, told):
                spell_alike(connection, self.new.tables[name], told.key)
        silenced = silence(connection, [self.new.tables[name] for name in self._stashed() if name in self.new.tables])
        while torn := self._tried():
            together.leave(connection, torn)
        unsilence(connection, silenced)
        self.already += done
        tell_lost(connection, self.new)
        return self._answer(out)

    def _tried(self) -> together.Torn:
        """Attach all that is to be attached; gives the transactions of which only a part could be, and then nothing is
        changed."""
        connection = self.connection
        run(connection, "DROP TABLE IF EXISTS pg_temp.sp_stash")
        run(connection, MERGE)
        run(connection, KEYLESS)
        run(connection, "CREATE UNIQUE INDEX ON pg_temp.sp_stash (n)")
        run(connection, "CREATE INDEX ON pg_temp.sp_stash (relation)")
        run(connection, "ANALYZE pg_temp.sp_stash")
        try:
            try:
                self._once(careful=False)
            except DatabaseError:  # what was deleted is needed, or a row of a circle could not be written
                self._once(careful=True)
        except _InPart as found:
            # Their lines go, and what refers to one whose number is another row's is to be told all the same.
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO pg_temp.sp_taken VALUES (%s, %s::jsonb)", found.taken)
            return found.torn
        return {}

    def _once(self, *, careful: bool) -> None:
        self._begin(careful=careful)
        with self.connection.transaction():
            self._attach()
            if torn := together.torn(self.connection):
                raise _InPart(torn, ask(self.connection, "SELECT DISTINCT relation, vals::text FROM pg_temp.sp_taken"))

    def _attach(self) -> None:
        connection, stashed = self.connection, self._stashed()
        whole = [name for name, table in stashed.items() if table.whole]
        connection.execute("UPDATE pg_temp.sp_stash SET whole = true WHERE relation = ANY(%s)", [whole])
        names = self._parents_first(stashed)
        self._djangos_own(stashed)
        found = [self.new.tables[name] for name in names if self._is_found(name, stashed[name])]
        for one in found:
            tell_narrowed(connection, one)
            name_again(connection, self.new, one, self.found)
            self._delete(one, stashed[one.name])
        self._coming = [] if self.careful else list(names)
        carried = [table for name in names if (table := self._table(name, stashed[name]))]
        for table in carried:  # once all rows are there that they may refer to
            values = SingleValues(connection, self.new, table, stashed[table.name], self.defaults)
            if self._holds(table, "NOT whole", values.attach):
                self.values += values.changed
                self.already += values.already
                self.tables[table.name] += values.changed
                self._changed[table.name] = self._changed.get(table.name, frozenset()) | values.columns
                self._lost |= {table.name} if values.changed else set()
        for one in reversed(found if self.careful else ()):
            removed = self._whole(one, stashed[one.name]).remove()
            self.rows += removed
            self.tables[one.name] += removed
        self._verify()

    def _djangos_own(self, names: Iterable[str]) -> None:
        for table in (self.new.tables[one] for one in sorted(names) if one in self.new.tables):
            if table.relation in ID_TABLES:
                made, already = attach_own(self.connection, self.new, table, self.found)
                self.rows += made
                self.already += already
                self.tables[table.name] += made

    def _is_found(self, name: str, told: StashedTable) -> bool:
        """Whether there is a table, and it has the columns by which its rows are found."""
        table = self.new.tables.get(name)
        if table is None or name.partition(".")[2] in NOT_CARRIED:
            return False
        return all(one in table.by_name for one in told.key)

    def _delete(self, table: Table, told: StashedTable) -> None:
        """Rows of tables that were there before."""
        deleted, already = delete(self.connection, table, told, careful=self.careful)
        self.rows += deleted
        self.already += already
        self.tables[table.name] += deleted
        if deleted:
            self._changed[table.name] = {*table.by_name}
            self._lost.add(table.name)

    def _stashed(self) -> dict[str, StashedTable]:
        """What the newest stash says of each table."""
        return {name: table for one in self.found for name, table in one.tables.items()}

    def _table(self, name: str, told: StashedTable) -> Table | None:
        """Write its whole rows; gives the table where values may follow."""
        table = self.new.tables.get(name)
        if name.partition(".")[2] in NOT_CARRIED:
            return None
        if table is None:
            parted = self.new.roots.get(name) is not None
            self._leave(name, f"the new schema has {'a partition of this name' if parted else 'no such table'}")
            return None
        if not self._is_found(name, told):
            self._leave(name, "the table has no key by which the row could be found")
            return None
        if name in self._coming:
            self._coming.remove(name)
        rows = self._whole(table, told)
        if self._holds(table, "whole", rows.attach):
            self.rows += rows.changed
            self.already += rows.already
            self.tables[name] += rows.changed
            if rows.changed:
                self._changed[name] = {*table.by_name}
                self._lost |= {name} if rows.made else set()
        return None if told.whole else table

    def _holds(self, table: Table, which: str, write: Callable[[], None]) -> bool:
        """Write, and see that deferrable exclusions hold: the triggers that look again at these are silent. Where one
        does not, all is written again without the rows that break it, which are told; without any where nobody knows
        which they are."""
        connection, key = self.connection, self._stashed()[table.name].key
        while True:
            try:
                with connection.transaction():
                    write()
                    if (found := broken(connection, table, key, which)) is not None:
                        raise _Broken(*found)
            except _Broken as error:
                if not error.rows:
                    self._leave(table.name, error.why, which)
                    return False
                those = [error.why, sorted(error.rows)]
                connection.execute("UPDATE pg_temp.sp_stash SET bad = %s WHERE n = ANY(%s)", those)
            else:
                return True

    def _whole(self, table: Table, told: StashedTable) -> WholeRows:
        made = told.whole and table.name in self.made
        anew = made and self._made_anew(table, told)
        words = self.defaults, self.careful, self._coming, anew
        return WholeRows(self.connection, self.new, table, told.key, made, *words)

    def _read(self, name: str) -> bool:
        """Whether mappers read the stashed rows of a table: the migration may have made its rows of what these gave."""
        told = self._stashed().get(name)
        return told is not None and told.read

    def _made_anew(self, table: Table, told: StashedTable) -> bool:
        """Whether the migration made the table's rows of what mappers had given the old release of the stashed ones."""
        return told.read and bool(ask(self.connection, f"SELECT EXISTS (SELECT FROM {rows_of(table)})")[0][0])

    def _leave(self, name: str, reason: str, which: str = "true") -> None:
        run(
            self.connection,
            f"INSERT INTO pg_temp.sp_left SELECT relation, key, '*', {literal(reason)}, vals::text "
            f"FROM pg_temp.sp_stash WHERE relation = {literal(name)} AND {which}",
        )

    def _parents_first(self, names: Iterable[str], *, loosely: bool = False) -> list[str]:
        """`loosely`: also those that no constraint leads to."""
        found: list[str] = []
        pending = sorted(names)
        needs = {
            name: self._needs(name) | (parents(self.new, self.found, name) if loosely else set()) for name in pending
        }
        while pending:
            free = [name for name in pending if not needs[name] & (set(pending) - {name})]
            for name in free or pending[:1]:  # a circle is begun anywhere
                found.append(name)
                pending.remove(name)
        return found

    def _needs(self, name: str) -> set[str]:
        table = self.new.tables.get(name)
        return set() if table is None else {key.parent for key in table.foreign_keys}

    def _verify(self) -> None:
        """Foreign keys from and to the columns that were written, asked of what stands there now.

        What had no parent before (a constraint may be NOT VALID, or filled past) is none of this launch's business:
        where only the children's columns were written, these are asked of the rows that were. Where rows were
        neither removed nor given other values, no child lost its parent.
        """
        broken = []
        for table in self.new.tables.values():
            for key in table.foreign_keys:
                lost = key.parent in self._lost and not self._changed[key.parent].isdisjoint(key.parent_columns)
                if not lost and self._changed.get(table.name, frozenset()).isdisjoint(key.columns):
                    continue
                rows = orphans(table, key, self.new, "true" if lost else WRITTEN)
                count = ask(self.connection, f"SELECT count(*) FROM {rows}")[0][0]
                if count:
                    broken.append(f"{table.name}.{key.name}: {count} rows without a parent")
        if broken:
            raise DatabaseError(
                "Foreign keys would not hold after the re-attachment.",
                subject=", ".join(self._changed),
                found="; ".join(broken),
                remedy="Nothing was changed. Move the stash's folder elsewhere and `safepoint retry`: then nothing of "
                "it is re-attached, and its values stay in the file.",
            )

    def _raise_sequences(self) -> None:
        """No number that was given out before the rollback is given out again."""
        set_further(self.connection, [pair for one in self.found for pair in one.sequences.items()])

    def _answer(self, out: Path) -> Reattached:
        left, preview = write_left(self.connection, out)
        moved, moves = write_moved(self.connection, out.with_name(MOVED))
        return Reattached(
            launches=tuple(one.launch_id for one in self.found),
            values=self.values,
            rows=self.rows,
            already=self.already,
            left=left,
            tables={name: count for name, count in self.tables.items() if count},
            preview=preview,
            file=str(out) if left else None,
            moved=moved,
            moves=moves,
        )
