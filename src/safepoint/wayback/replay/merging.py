"""What was worked out is written into the old tables: set-wise, triggers silent, sequences behind it.

Deletions of all tables come first, then updates in place, then insertions. A row whose unique values change is deleted
and inserted instead, so that two rows may exchange theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Table, read_catalogue
from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.holding import applied
from safepoint.wayback.replay.statements import REFUSED, ask, failing, run
from safepoint.wayback.replay.work import Work, quoted, rows_of

# Types whose equal values are written alike. Others are not: 1.0 and 1.00, a day and 24 hours, 0 and -0.
_WRITTEN_ALIKE: Final = frozenset({"smallint", "integer", "bigint", "uuid", "date"})

# What acts on a table's or a partition's rows under `replica`: triggers and rules that always do, or only then.
_ACTING: Final = """
SELECT t.tgrelid::regclass::text, 'TRIGGER', t.tgname, t.tgenabled::text FROM pg_trigger t
WHERE t.tgrelid = ANY(%(relations)s) AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')
UNION ALL
SELECT r.ev_class::regclass::text, 'RULE', r.rulename, r.ev_enabled::text FROM pg_rewrite r
WHERE r.ev_class = ANY(%(relations)s) AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R')
"""
_RELATIONS: Final = """
SELECT array_agg(coalesce(p.relid::oid, c.id)) FROM unnest(%s::text[]) n(name)
CROSS JOIN LATERAL (SELECT n.name::regclass::oid AS id) c LEFT JOIN LATERAL pg_partition_tree(c.id) p ON true
"""


@dataclass(frozen=True)
class Acting:
    """A trigger or a rule that acts on what a replay writes. `when`: as the catalogue has it, A always, R replica."""

    relation: str
    kind: Literal["TRIGGER", "RULE"]
    name: str
    when: str

    def altered(self, word: str) -> str:
        """The statement that switches it. Pure.

        ONLY: each partition's copy of a trigger is switched by itself, for it may have been in another state.
        """
        return f"ALTER TABLE ONLY {self.relation} {word} {self.kind} {quote(self.name)}"


@dataclass(frozen=True)
class Merged:
    """How many rows were written into one old table."""

    inserted: int
    updated: int
    deleted: int


class _Refuses(Exception):
    """PostgreSQL refused a set of rows for something that no query here looks for (an exclusion, a rule of a
    partition's own)."""

    def __init__(self, work: Work) -> None:
        self.work = work


def silence(connection: Connection, tables: Iterable[Table]) -> tuple[Acting, ...]:
    """Ordinary triggers and rules are silent under `replica`; those that act all the same are switched off for this
    transaction. Gives them, for `unsilence`."""
    row = connection.execute(_RELATIONS, [[quoted(table) for table in tables]]).fetchone()
    relations = row[0] if row is not None and row[0] else []
    found = tuple(Acting(*one) for one in connection.execute(_ACTING, {"relations": relations}).fetchall())
    for one in found:
        run(connection, one.altered("DISABLE"))
    return found


def unsilence(connection: Connection, silenced: Sequence[Acting]) -> None:
    """Put them back as they were."""
    for one in silenced:
        run(connection, one.altered({"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}[one.when]))


def merge(connection: Connection, works: Sequence[Work]) -> dict[str, Merged] | Work:
    """Write everything; the table whose rows PostgreSQL refused, where it did (nothing is written then)."""
    for work in works:
        _choose_moved(connection, work)
    while True:
        try:
            with connection.transaction():
                return _merge(connection, works)
        except _Refuses as refused:
            # Inserted again rows may exchange what only one may have; and what is refused then is found row by row.
            again = (
                f"UPDATE {refused.work.change} c SET moved = true WHERE {applied()} AND c.op = 'update' AND NOT c.moved"
            )
            if not run(connection, again):
                return refused.work


def _merge(connection: Connection, works: Sequence[Work]) -> dict[str, Merged]:
    deleted = {work.old.name: _delete(connection, work) for work in works}
    updated = {work.old.name: _update(connection, work) for work in works}
    return {
        work.old.name: Merged(
            _insert(connection, work) - deleted[work.old.name][1],
            updated[work.old.name] + deleted[work.old.name][1],
            deleted[work.old.name][0],
        )
        for work in works
    }


def find_refused(connection: Connection, works: Sequence[Work], work: Work) -> int:
    """Try a table's insertions row by row (exclusion constraints, missing partitions), and put aside what fails."""
    found: list[tuple[int, str]] = []
    with connection.transaction(force_rollback=True):
        for one in works:
            _delete(connection, one)
        for op in ("update", "insert"):  # what is there already goes before what comes new
            which = f"SELECT n FROM {work.change} c WHERE {_inserts()} AND c.op = '{op}'"
            found += failing(connection, f"{_insertion(work)} AND c.op = '{op}'", which, "c.n")
    for n, said in found:
        connection.execute(sql.SQL(f"UPDATE {work.change} SET verdict = 'value', reason = %s WHERE n = %s"), [said, n])
    return len(found)


def _choose_moved(connection: Connection, work: Work) -> None:
    """Which updates must be a deletion and an insertion."""
    keys = {name for name, _ in work.rule.key}
    others = [one for one in work.old.uniques if set(one.columns) != keys or not one.plain]
    identities = [column.name for column in work.old.columns if column.identity and column.name not in keys]
    if not work.rule.key or (not others and not identities):
        return
    names = {name for one in others for name in one.columns} - keys
    if identities or not all(one.plain for one in others):
        condition = "true"
    elif not names:
        return  # what the key names has the same values still
    else:
        condition = " OR ".join(f"o.{quote(name)} IS DISTINCT FROM t.{quote(name)}" for name in sorted(names))
    run(
        connection,
        f"UPDATE {work.change} c SET moved = true FROM {work.out} o, {rows_of(work.old)} t "
        f"WHERE o._sp_n = c.n AND t.ctid = c.row_tid AND t.tableoid = c.row_rel AND c.op = 'update' AND ({condition})",
    )


def _delete(connection: Connection, work: Work) -> tuple[int, int]:
    """Gives how many rows were deleted for good, and how many only to be inserted again."""
    rows = {}
    for kind, condition in (("gone", "c.op = 'delete'"), ("moved", "c.op = 'update' AND c.moved")):
        expected = ask(connection, f"SELECT count(*) FROM {work.change} c WHERE {applied()} AND {condition}")[0][0]
        rows[kind] = 0
        if expected:
            rows[kind] = run(
                connection,
                f"DELETE FROM {rows_of(work.old)} t USING {work.change} c "
                f"WHERE t.ctid = c.row_tid AND t.tableoid = c.row_rel AND {applied()} AND {condition}",
            )
        _whole(work.old, "deleted", expected, rows[kind])
    return rows["gone"], rows["moved"]


def _update(connection: Connection, work: Work) -> int:
    keys = {name for name, _ in work.rule.key}
    names = [
        column.name
        for column in work.old.written
        if not column.identity and (column.name not in keys or column.base not in _WRITTEN_ALIKE)
    ]
    condition = f"{applied()} AND c.op = 'update' AND NOT c.moved"
    expected = int(ask(connection, f"SELECT count(*) FROM {work.change} c WHERE {condition}")[0][0])
    if not expected or not names:
        return expected
    pairs = ", ".join(f"{quote(name)} = o.{quote(name)}" for name in names)
    try:
        with connection.transaction():
            found = run(
                connection,
                f"UPDATE {rows_of(work.old)} t SET {pairs} FROM {work.change} c JOIN {work.out} o ON o._sp_n = c.n "
                f"WHERE t.ctid = c.row_tid AND t.tableoid = c.row_rel AND {condition}",
            )
    except REFUSED as refused:
        raise _Refuses(work) from refused
    _whole(work.old, "updated", expected, found)
    return found


def _inserts() -> str:
    return f"{applied()} AND (c.op = 'insert' OR (c.op = 'update' AND c.moved))"


def _insertion(work: Work) -> str:
    names = ", ".join(quote(column.name) for column in work.old.written)
    columns = f"({names}) " if names else ""  # a table may have no column, and an empty list is none
    values = ", ".join(f"o.{quote(column.name)}" for column in work.old.written)
    return (
        f"INSERT INTO {quoted(work.old)} {columns}OVERRIDING SYSTEM VALUE SELECT {values} "
        f"FROM {work.out} o JOIN {work.change} c ON c.n = o._sp_n WHERE {_inserts()}"
    )


def _insert(connection: Connection, work: Work) -> int:
    expected = int(ask(connection, f"SELECT count(*) FROM {work.change} c WHERE {_inserts()}")[0][0])
    if not expected:
        return 0
    try:
        with connection.transaction():
            # In the order of the log, which is that of most keys: indexes grow at their end.
            found = run(connection, f"{_insertion(work)} ORDER BY c.n")
    except REFUSED as refused:
        raise _Refuses(work) from refused
    _whole(work.old, "inserted", expected, found)
    return expected


def _whole(table: Table, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise DatabaseError(
            f"The replay {what} another number of rows of {table.name} than it had to.",
            subject=table.name,
            expected=str(expected),
            found=str(found),
            remedy="Nothing was changed. Does someone else write to the twin? Run the rollback again.",
        )


# All of them at once: a database may have ten thousand, and the site is closed meanwhile. One that cannot go as far
# ends at its last number (but for one that begins again): then it says so itself, where one that stayed behind would
# give out numbers again.
FURTHER: Final = """
SELECT name, value FROM (
    SELECT w.name, pg_sequence_last_value(s.seqrelid) AS last,
           CASE WHEN s.seqincrement > 0
                THEN greatest(least(max(w.there), s.seqmax), pg_sequence_last_value(s.seqrelid))
                ELSE least(greatest(min(w.there), s.seqmin), pg_sequence_last_value(s.seqrelid)) END AS value
    FROM unnest(%s::text[], %s::int8[]) w(name, there) JOIN pg_sequence s ON s.seqrelid = to_regclass(w.name)
    WHERE w.there BETWEEN s.seqmin AND s.seqmax
        OR NOT s.seqcycle AND (w.there > s.seqmax) = (s.seqincrement > 0)
    GROUP BY w.name, s.seqrelid, s.seqincrement, s.seqmin, s.seqmax
) f WHERE value IS DISTINCT FROM last ORDER BY name
"""
SET: Final = "SELECT setval(name::regclass, value) FROM unnest(%s::text[], %s::int8[]) w(name, value)"
LAST_VALUES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), pg_sequence_last_value(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'safepoint' ORDER BY 1
"""


def raise_sequences(
    connection: Connection, migrated: Connection, mapping: WayBack, old: Catalogue, new: Catalogue
) -> dict[str, int]:
    """Set the twin's sequences to where the migrated database's are, where those are further: no id is given twice.

    A sequence belongs to the one of the column that feeds its column (it owns it, or its default names it); one without
    a column, to that of its name.
    """
    return _raise(connection, migrated, _partners(mapping, old, new))


def raise_new_sequences(migrated: Connection, twin: Connection, mapping: WayBack) -> dict[str, int]:
    """The other way round, before a return: the twin was live, and what wrote to it was given numbers there."""
    partners: dict[str, set[str]] = {}
    for own, others in _partners(mapping, read_catalogue(twin), read_catalogue(migrated)).items():
        for other in others:
            partners.setdefault(other, set()).add(own)
    return _raise(migrated, twin, partners)


def _partners(mapping: WayBack, old: Catalogue, new: Catalogue) -> dict[str, set[str]]:
    """By the old sequences the new ones that feed the same columns: several, where tables had one together and have
    one each now."""
    found: dict[str, set[str]] = {}
    for rule in mapping.tables:
        before, now = old.tables.get(rule.old), new.tables.get(rule.new)
        if before is None or now is None:
            continue
        for column in rule.columns:
            one, other = before.by_name.get(column.column), now.by_name.get(column.new or "")
            if one is not None and one.sequence is not None and other is not None and other.sequence is not None:
                found.setdefault(one.sequence, set()).add(other.sequence)
    return found


def _raise(connection: Connection, further: Connection, partners: Mapping[str, Collection[str]]) -> dict[str, int]:
    theirs: dict[str, int | None] = {row[0]: row[1] for row in further.execute(LAST_VALUES).fetchall()}
    wanted = [
        (str(name), there)
        for name, _ in connection.execute(LAST_VALUES).fetchall()
        for one in partners.get(str(name), {str(name)})
        if (there := theirs.get(one)) is not None
    ]
    return set_further(connection, wanted)


def set_further(connection: Connection, wanted: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Set sequences to these values, in the direction that each counts in, where they are not as far; gives those that
    were set. Names of which there is none are passed over; of several values the furthest counts."""
    values = [[name for name, _ in wanted], [there for _, there in wanted]]
    changed = {str(name): int(value) for name, value in connection.execute(FURTHER, values).fetchall()}
    if changed:
        connection.execute(SET, [[*changed], [*changed.values()]])
    return changed


def left_sequences(connection: Connection, migrated: Connection, old: Catalogue) -> tuple[str, ...]:
    """The twin's sequences that nobody can raise: no column takes its numbers from them, and the migrated database has
    none of that name. What asked them by name gives out numbers again that were given out since."""
    taken = {column.sequence for table in old.tables.values() for column in table.columns}
    theirs = {str(row[0]) for row in migrated.execute(LAST_VALUES).fetchall()}
    ours = [str(row[0]) for row in connection.execute(LAST_VALUES).fetchall()]
    return tuple(name for name in ours if name not in taken and name not in theirs)
