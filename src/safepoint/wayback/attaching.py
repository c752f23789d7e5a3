"""The work of a re-attachment: which stashed value may be set, which row written, and what has to be told instead.

A value is set where the row still is what it was when it was stashed, or where the column has its default still.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection
from safepoint.wayback.catalogue import Catalogue, Column, Table, Unique
from safepoint.wayback.expressions import CONTENT_TYPES, PERMISSIONS, literal, quote, written
from safepoint.wayback.left import Left, write_left
from safepoint.wayback.mapping import NOT_CARRIED
from safepoint.wayback.meeting import is_value, meet
from safepoint.wayback.natural import named
from safepoint.wayback.rivals import RIVAL, put_aside_rivals
from safepoint.wayback.stash import Stash, StashedTable
from safepoint.wayback.statements import ask, attempt, failing, run
from safepoint.wayback.whole_rows import WRITTEN, WholeRows, exchange, given, orphaned, orphans, settable
from safepoint.wayback.work import quoted, rows_of

Defaults = Mapping[str, Mapping[str, str | None]]

# Triggers are silent: what they did to other rows when the values were written has been carried or stashed itself.
SETTINGS: Final = """
SET LOCAL session_replication_role = replica;
SET LOCAL row_security = off;
"""
STAGE: Final = """
CREATE TEMP TABLE sp_lines (place int4, line jsonb) ON COMMIT DROP;
CREATE TEMP TABLE sp_left (relation text, key jsonb, col text, reason text, value text) ON COMMIT DROP;
CREATE TEMP TABLE sp_later (n int8) ON COMMIT DROP;
"""
# Rows that were stashed before their table was emptied went with it.
EMPTIED: Final = """
DELETE FROM sp_lines l USING sp_lines t
WHERE t.line ->> 'action' = 'truncate' AND l.line ->> 'action' <> 'truncate'
  AND l.line ->> 'relation' = t.line ->> 'relation'
  AND (l.place, (l.line ->> 'commit_lsn')::pg_lsn) < (t.place, (t.line ->> 'commit_lsn')::pg_lsn)
"""
# Of several stashes the newest says what a row is; of a row's columns each has its newest value.
MERGE: Final = """
CREATE TEMP TABLE sp_stash ON COMMIT DROP AS
SELECT row_number() OVER () AS n, relation, key, last.action, last.place, last.witness, last.mapped, merged.vals,
       NULL::text AS bad
FROM (SELECT DISTINCT line ->> 'relation' AS relation, line -> 'key' AS key FROM sp_lines
      WHERE line ->> 'action' <> 'truncate' AND line -> 'key' <> '{}') k
CROSS JOIN LATERAL (
    SELECT l.place, l.line ->> 'action' AS action, l.line ->> 'witness' AS witness, l.line -> 'mapped' AS mapped
    FROM sp_lines l
    WHERE l.line ->> 'relation' = k.relation AND l.line -> 'key' = k.key
    ORDER BY l.place DESC, (l.line ->> 'commit_lsn')::pg_lsn DESC LIMIT 1) last
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(v.key, v.value ORDER BY l.place, (l.line ->> 'commit_lsn')::pg_lsn), '{}') AS vals
    FROM sp_lines l, jsonb_each(l.line -> 'values') v
    WHERE l.line ->> 'relation' = k.relation AND l.line -> 'key' = k.key) merged
"""


@dataclass(frozen=True)
class Reattached:
    """`values` were set in rows that were carried, `rows` of whole tables were written or removed; `already` stood.

    `left` could not be: the first are in `preview`, all of them in `file`.
    """

    launches: tuple[str, ...]
    values: int
    rows: int
    already: int
    left: int
    tables: Mapping[str, int] = field(default_factory=dict)
    preview: tuple[Left, ...] = ()
    file: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reattached:
        """The inverse of `as_json`."""
        preview = tuple(Left(**one) for one in data["preview"])
        return cls(**{**data, "launches": tuple(data["launches"]), "preview": preview})


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
        self.connection, self.made, self.new, self.found, self.defaults = connection, made, new, found, defaults
        self._begin(careful=False)

    def _begin(self, *, careful: bool) -> None:
        """`careful`: what was deleted goes at the end, as far as nothing refers to it then; no row is written before
        one that it refers to."""
        self.careful = careful
        self._coming: list[str] = []
        self.values = self.rows = self.already = 0
        self.tables: dict[str, int] = {}
        self._changed: dict[str, Set[str]] = {}

    def run(self, out: Path) -> Reattached:
        """All of it; what could not be re-attached stands in the file `out`."""
        run(connection := self.connection, STAGE)
        with connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_lines FROM STDIN") as copy:
            for place, one in enumerate(self.found):
                with one.rows.open(encoding="utf-8") as file:
                    for line in file:
                        copy.write_row((place, line))
        run(connection, "CREATE INDEX ON pg_temp.sp_lines ((line ->> 'relation'), (line -> 'key'))")
        run(connection, "ANALYZE pg_temp.sp_lines")
        run(connection, EMPTIED)
        run(connection, MERGE)
        run(connection, "CREATE UNIQUE INDEX ON pg_temp.sp_stash (n)")
        run(connection, "CREATE INDEX ON pg_temp.sp_stash (relation)")
        run(connection, "ANALYZE pg_temp.sp_stash")
        try:
            with connection.transaction():
                self._attach()
        except DatabaseError:  # what was deleted is needed, or a row of a circle could not be written
            self._begin(careful=True)
            self._attach()
        self._raise_sequences()
        return self._answer(out)

    def _attach(self) -> None:
        stashed = self._stashed()
        whole = self._parents_first(name for name, table in stashed.items() if table.whole)
        self._coming = [] if self.careful else list(whole)
        for name in (*whole, *(name for name in stashed if name not in whole)):
            self._table(name, stashed[name])
        for name in reversed(whole if self.careful else ()):
            if name in self.tables:  # else it has no key, and nothing waits
                removed = self._whole(self.new.tables[name]).remove()
                self.rows += removed
                self.tables[name] += removed
        self._verify()

    def _stashed(self) -> dict[str, StashedTable]:
        """What the newest stash says of each table."""
        return {name: table for one in self.found for name, table in one.tables.items()}

    def _table(self, name: str, told: StashedTable) -> None:
        bare = name.partition(".")[2]
        table = self.new.tables.get(name)
        if bare in NOT_CARRIED:
            return  # Django makes these itself, after each migration
        if table is None:
            if self.new.roots.get(name) is None:
                self._leave(name, "the new schema has no such table")
            return  # a partition's name stands at a truncation only
        if any(one not in table.by_name for one in told.key) or not told.key:
            self._keyless(table, told)
            return
        self._name_again(table)
        before = self.values + self.rows
        if told.whole:
            self._rows(table)
        else:
            self._columns(table, told)
        self.tables[name] = self.values + self.rows - before

    def _rows(self, table: Table) -> None:
        self._changed[table.name] = {*table.by_name}
        if table.name in self._coming:
            self._coming.remove(table.name)
        rows = self._whole(table)
        rows.attach()
        self.rows += rows.changed
        self.already += rows.already

    def _whole(self, table: Table) -> WholeRows:
        return WholeRows(self.connection, self.new, table, table.name in self.made, self.careful, self._coming)

    def _keyless(self, table: Table, told: StashedTable) -> None:
        """Rows without a key can be inserted, where nothing else was done to them."""
        name = literal(table.name)
        lines = f"pg_temp.sp_lines WHERE line ->> 'relation' = {name}"
        others = ask(self.connection, f"SELECT count(*) FROM {lines} AND line ->> 'action' <> 'insert'")[0][0]
        if told.key or others or not told.whole or table.name not in self.made:
            self._leave(table.name, "the table has no key by which the rows could be found")
            run(
                self.connection,
                f"INSERT INTO pg_temp.sp_left SELECT {name}, line -> 'key', '*', "
                f"'the table has no key by which the row could be found', (line -> 'values')::text FROM {lines}",
            )
            return
        self._changed[table.name] = {*table.by_name}
        columns = list(table.written)
        values = ", ".join(f"(line -> 'values' ->> {literal(c.name)})::{c.type}" for c in columns)
        names = ", ".join(quote(column.name) for column in columns)
        self.rows += run(
            self.connection,
            f"INSERT INTO {quoted(table)} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {lines}",
        )

    def _name_again(self, table: Table) -> None:
        """Ids of content types and permissions are others in this database: found again by what they name."""
        for key in table.foreign_keys:
            parent = self.new.tables[key.parent].relation
            if parent not in (CONTENT_TYPES, PERMISSIONS) or len(key.columns) != 1:
                continue
            now = {label: number for number, label in named(self.connection, self.new, key.parent).items()}
            # Each tenant's schema may have its own; an earlier version's stash has those of one, by the bare name.
            pairs = [
                (place, was, now.get(label))
                for place, one in enumerate(self.found)
                for was, label in one.identities.get(key.parent, one.identities.get(parent, {})).items()
            ]
            run(self.connection, "CREATE TEMP TABLE sp_ids (place int4, was text, now text) ON COMMIT DROP")
            with self.connection.cursor() as cursor, cursor.copy("COPY pg_temp.sp_ids FROM STDIN") as copy:
                for pair in pairs:
                    copy.write_row(pair)
            column = literal(key.columns[0])
            path = f"ARRAY[{column}]"
            which = f"s.relation = {literal(table.name)} AND s.{{where}} ->> {column} IS NOT NULL"
            for where in ("vals", "key"):
                run(
                    self.connection,
                    f"UPDATE pg_temp.sp_stash s SET bad = CASE WHEN i.now IS NULL THEN "
                    f"{literal(f'what its {key.columns[0]} names is not there')} ELSE s.bad END, "
                    f"{where} = jsonb_set(s.{where}, {path}, coalesce(to_jsonb(i.now), 'null')) "
                    f"FROM pg_temp.sp_stash o LEFT JOIN pg_temp.sp_ids i ON i.place = o.place "
                    f"AND i.was = o.{where} ->> {column} WHERE o.n = s.n AND {which.format(where=where)}",
                )
            run(self.connection, "DROP TABLE pg_temp.sp_ids")

    def _columns(self, table: Table, told: StashedTable) -> None:
        """Values of rows that were carried back, and went through this migration again."""
        connection, name = self.connection, literal(table.name)
        meet(connection, table, told)
        run(connection, "CREATE INDEX ON pg_temp.sp_met (n)")
        run(
            connection,
            f"INSERT INTO pg_temp.sp_left SELECT {name}, key, '*', coalesce(bad, 'the row is not there any more'), "
            f"vals::text FROM pg_temp.sp_met WHERE tid IS NULL OR bad IS NOT NULL",
        )
        run(connection, "DELETE FROM pg_temp.sp_met WHERE tid IS NULL OR bad IS NOT NULL")
        names = ask(connection, "SELECT DISTINCT k FROM pg_temp.sp_met, jsonb_object_keys(vals) k ORDER BY 1")
        # All decisions come before all changes: a changed row has another place.
        plans = [self._column(table, str(one)) for (one,) in names]
        wanted = [column for column in plans if column is not None]
        if wanted:
            self._rivals(table, wanted)
            self._changed[table.name] = {column.name for column in wanted}
            self._set(table, wanted)

    def _rivals(self, table: Table, columns: Sequence[Column]) -> None:
        """What another row has, and only one may have."""
        values = {one.name: given(one) for one in columns}

        def refuse(unique: Unique, reason: str) -> None:
            for name in (one for one in unique.columns if one in values):
                self._refuse(table, name, f"{RIVAL} AND m.vals ? {literal(name)}", reason)

        put_aside_rivals(self.connection, table, values, "m.vals <> '{}'", refuse)

    def _column(self, table: Table, name: str) -> Column | None:
        """Decide about one column; what cannot be set is told, and taken out of the values."""
        connection, column = self.connection, table.by_name.get(name)
        if column is None or column.generated:
            self._refuse(table, name, f"vals ? {literal(name)}", "the new schema has no such column any more")
            return None
        value = f"m.vals ->> {literal(name)}"
        known = f"FROM {rows_of(table)} t WHERE t.ctid = m.tid AND t.tableoid = m.rel"
        now = f"(SELECT {written(f't.{quote(name)}')} {known})"
        has = f"m.vals ? {literal(name)}"
        equal = f"{has} AND {now} IS NOT DISTINCT FROM {value}"
        self.already += run(connection, f"UPDATE pg_temp.sp_met m SET vals = vals - {literal(name)} WHERE {equal}")
        usual = " OR ".join(f"{now} IS NOT DISTINCT FROM {one}" for one in self._usual(table, column))
        self._refuse(table, name, f"{has} AND NOT (m.same OR {usual})", "the row has a newer value")
        for condition, reason in orphaned(table, name, self.new):
            self._refuse(table, name, f"{has} AND {condition}", reason)
        return column

    def _usual(self, table: Table, column: Column) -> list[str]:
        """What a row that nobody has touched since the migration has in this column, as SQL that gives text."""
        found = ["NULL"]
        if column.default is not None and "nextval" not in column.default:
            found.append(written(f"({column.default})::{column.type}"))
        django = (self.new.of_django(self.defaults, table) or {}).get(column.name)
        if django is not None and is_value(self.connection, django, column.type):
            found.append(written(f"{literal(django)}::{column.type}"))
        return found

    def _refuse(self, table: Table, name: str, condition: str, reason: str) -> None:
        run(
            self.connection,
            f"INSERT INTO pg_temp.sp_left SELECT {literal(table.name)}, m.key, {literal(name)}, {literal(reason)}, "
            f"m.vals ->> {literal(name)} FROM pg_temp.sp_met m WHERE {condition}",
        )
        run(self.connection, f"UPDATE pg_temp.sp_met m SET vals = vals - {literal(name)} WHERE {condition}")

    def _set(self, table: Table, columns: Sequence[Column]) -> None:
        pairs = ", ".join(f"{quote(one.name)} = {given(one)}" for one in columns)
        statement = (
            f"UPDATE {rows_of(table)} t SET {pairs} FROM pg_temp.sp_met m WHERE t.ctid = m.tid AND t.tableoid = m.rel "
            f"AND m.vals <> '{{}}'"
        )
        with settable(self.connection, table, columns):
            taken = attempt(self.connection, statement) is None or exchange(self.connection, table, columns)
            those = "SELECT n FROM pg_temp.sp_met WHERE vals <> '{}'"
            bad = [] if taken else failing(self.connection, statement, those, "m.n")
        for n, said in bad:
            self.connection.execute(
                "INSERT INTO pg_temp.sp_left SELECT %s, key, '*', %s, vals::text FROM pg_temp.sp_met WHERE n = %s",
                [table.name, said, n],
            )
        gone = [n for n, _ in bad]
        row = self.connection.execute(
            "SELECT count(*) FROM pg_temp.sp_met, jsonb_object_keys(vals) WHERE n <> ALL(%s)", [gone]
        ).fetchone()
        self.values += int(row[0]) if row else 0

    def _leave(self, name: str, reason: str) -> None:
        self.connection.execute(
            "INSERT INTO pg_temp.sp_left SELECT relation, key, '*', %s, vals::text FROM pg_temp.sp_stash "
            "WHERE relation = %s",
            [reason, name],
        )

    def _parents_first(self, names: Iterable[str]) -> list[str]:
        found: list[str] = []
        pending = sorted(names)
        while pending:
            free = [name for name in pending if not self._needs(name) & (set(pending) - {name})]
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
        where only the children's columns were written, these are asked of the rows that were.
        """
        broken = []
        for table in self.new.tables.values():
            for key in table.foreign_keys:
                lost = not self._changed.get(key.parent, frozenset()).isdisjoint(key.parent_columns)
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
        wanted: dict[str, int] = {}
        for one in self.found:
            for name, value in one.sequences.items():
                wanted[name] = max(value, wanted.get(name, value))
        for name, value in wanted.items():
            self.connection.execute(
                "SELECT setval(c.oid::regclass, least(greatest(%s, pg_sequence_last_value(c.oid)), s.seqmax)) "
                "FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid WHERE c.oid = to_regclass(%s) "
                "AND s.seqincrement > 0 AND coalesce(pg_sequence_last_value(c.oid), s.seqmin - 1) < %s",
                [value, name, value],
            )

    def _answer(self, out: Path) -> Reattached:
        left, preview = write_left(self.connection, out)
        return Reattached(
            launches=tuple(one.launch_id for one in self.found),
            values=self.values,
            rows=self.rows,
            already=self.already,
            left=left,
            tables={name: count for name, count in self.tables.items() if count},
            preview=preview,
            file=str(out) if left else None,
        )
