"""What the old schema can hold: each constraint asked by query, before anything is written.

Under `session_replication_role = replica` PostgreSQL checks no foreign key, and one bad row would fail a whole set for
the others. So what is to be written is looked at together with what stays of the twin's rows; a row that cannot be
held is put aside with its reason, and then what depends on it, until nothing more is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Exclusion, ForeignKey, Table, Unique
from safepoint.wayback.mapping.expressions import FILLED, literal, quote
from safepoint.wayback.mapping.mapping import TableRule
from safepoint.wayback.mapping.mirrored import reference_held, unique_held
from safepoint.wayback.mapping.periods import covered, overlaps
from safepoint.wayback.replay.compaction import few
from safepoint.wayback.replay.fitting import put_aside_misfits
from safepoint.wayback.replay.manner import Policy
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import Scope, Work, refers, rows_of

Rules = Mapping[str, TableRule]
"""The mapping's rules by old table."""


def hold(
    connection: Connection, works: Sequence[Work], old: Catalogue, scope: Scope, policy: Policy, trusted: Rules | None
) -> None:
    """Put aside what the old schema cannot hold, with its dependants; `policy` and `trusted`: see `settle`."""
    run(connection, "DROP TABLE IF EXISTS pg_temp.sp_spared")
    run(connection, "CREATE TEMP TABLE sp_spared (relation text, constraint_ text, n int8) ON COMMIT DROP")
    for work in works:
        put_aside_misfits(connection, work, old, scope)
    settle(connection, works, old, policy, trusted)


def settle(
    connection: Connection, works: Sequence[Work], old: Catalogue, policy: Policy, trusted: Rules | None = None
) -> int:
    """Unique and foreign keys, again and again until no row is put aside any more; each round puts one at least.
    Gives how many rows were put aside.

    Args:
        policy: where whole transactions are put aside, all that they did is left out by that.
        trusted: what the new schema holds too (`mirrored`) is asked only of tables that have something put aside;
            None asks everything.
    """
    questions = [*_unique_questions(connection, works, trusted), *_key_questions(connection, works, old, trusted)]
    questions += _exclusion_questions(works)
    questions += [_Question(_half_moved(work)) for work in works if work.moves and policy == "row"]
    chains = [_Chain(work, key) for work in works for key in work.old.foreign_keys if _is_chain(work, key)]
    whole, found = 0, -1
    while found:
        aside = {work.old.name for work in works if any_aside(connection, work)} if trusted is not None else set()
        found = sum(run(connection, one.statement) for one in questions if one.only is None or one.only & aside)
        found += sum(one.put_aside(connection) for one in chains) if found else 0
        whole += found
    return whole


@dataclass(frozen=True)
class _Question:
    """A statement that puts rows aside. `only`: where one of these tables has some put aside already; None: always."""

    statement: str
    only: frozenset[str] | None = None


def _unique_questions(connection: Connection, works: Sequence[Work], trusted: Rules | None) -> Iterator[_Question]:
    for work in works:
        by_index = few(connection, work.change, work.old)
        for unique in work.old.uniques:
            if set(unique.columns) == {name for name, _ in work.rule.key} and unique.plain:
                continue  # by it the rows were matched
            held = trusted is not None and unique_held(work.rule, work.new, unique)
            only = frozenset({work.old.name}) if held else None
            yield _Question(_twice(work, unique), only)
            yield _Question(_taken(work, unique, by_index), only)


def _exclusion_questions(works: Sequence[Work]) -> Iterator[_Question]:
    """Only of constraints that are deferrable: of others the index itself refuses rows. What a row that stays excludes
    does not come, and so excludes nothing itself."""
    for work in works:
        for exclusion in work.old.exclusions:
            yield _Question(_excluded_by_staying(work, exclusion))
            yield _Question(_excluded_by_earlier(work, exclusion))


def _key_questions(
    connection: Connection, works: Sequence[Work], old: Catalogue, trusted: Rules | None
) -> Iterator[_Question]:
    by_name = {work.old.name: work for work in works}
    for table in old.tables.values():
        for key in (*table.foreign_keys, *table.partial_keys):
            child, parent = by_name.get(table.name), by_name.get(key.parent)
            if child is not None:
                held = (
                    key in table.foreign_keys
                    and trusted is not None
                    and reference_held(trusted, child.rule, child.new, key)
                )
                only = frozenset({table.name, key.parent}) if held else None
                by_index = few(connection, child.change, old.tables[key.parent])
                yield _Question(_orphans(child, key, old, parent, by_index), only)
            if parent is not None:
                yield _Question(_still_needed(table.name, key, old, parent, child))


def any_aside(connection: Connection, work: Work) -> bool:
    """Whether any row of it is put aside."""
    return bool(ask(connection, f"SELECT EXISTS (SELECT FROM {work.change} WHERE verdict IS NOT NULL)")[0][0])


def applied(row: str = "c") -> str:
    """Rows that are going to be written or removed."""
    return f"{row}.verdict IS NULL AND {row}.op <> 'none'"


def _rows(unique: Unique | Exclusion, source: str, extra: str) -> str:
    """A source's rows with the key's expressions as e0, e1, ...; only those that the index looks at."""
    keys = ", ".join(f"({expression}) AS e{place}" for place, expression in enumerate(unique.expressions))
    where = f" WHERE {unique.predicate}" if unique.predicate else ""
    return f"(SELECT {extra}, {keys} FROM {source}{where})"


def _twice(work: Work, unique: Unique) -> str:
    """Of rows with the same unique key the first stays."""
    names = [f"e{place}" for place in range(len(unique.expressions))]
    whole = "" if unique.nulls_equal else " AND " + " AND ".join(f"{name} {FILLED}" for name in names)
    return f"""
        UPDATE {work.change} c SET verdict = 'unique', reason = {literal(f"another row has the same {unique.name}")}
        FROM (SELECT o._sp_n, row_number() OVER (PARTITION BY {", ".join(names)} ORDER BY g.op DESC, o._sp_n) AS place
              FROM {_rows(unique, work.out, "_sp_n")} o JOIN {work.change} g ON g.n = o._sp_n
              WHERE {applied("g")}{whole}) x
        WHERE x._sp_n = c.n AND x.place > 1 AND c.verdict IS NULL
    """


def _taken(work: Work, unique: Unique, by_index: bool) -> str:
    """A row of the twin that stays has the key already."""
    equal = "IS NOT DISTINCT FROM" if unique.nulls_equal else "="
    match = " AND ".join(f"t.e{place} {equal} o.e{place}" for place in range(len(unique.expressions)))
    rows = _rows(unique, rows_of(work.old), "ctid AS tid, tableoid AS rel")
    twins = f"JOIN {rows} t ON {match}"
    if by_index and not unique.nulls_equal:
        twins = f"CROSS JOIN LATERAL (SELECT * FROM {rows} t WHERE {match} OFFSET 0) t"
    return f"""
        UPDATE {work.change} c SET verdict = 'unique', reason = {literal(f"another row has the same {unique.name}")}
        FROM {_rows(unique, work.out, "_sp_n")} o
        {twins}
        LEFT JOIN {work.change} g ON g.row_tid = t.tid AND g.row_rel = t.rel AND {applied("g")}
        WHERE o._sp_n = c.n AND {applied()} AND g.n IS NULL
    """


def _half_moved(work: Work) -> str:
    """A row that got another key is two changes: it leaves its place, and stands in another one. Where one of them is
    put aside, so is the other: the row would be gone, or there twice."""
    return f"""
        UPDATE {work.change} c SET verdict = p.verdict, reason = p.reason
        FROM (SELECT CASE WHEN left_.verdict IS NULL THEN left_.n ELSE came.n END AS n,
                     coalesce(left_.verdict, came.verdict) AS verdict, coalesce(left_.reason, came.reason) AS reason
              FROM {work.change} came JOIN {work.change} left_
                ON left_.row_tid = came.origin_tid AND left_.row_rel = came.origin_rel AND left_.n <> came.n
              WHERE came.ends AND (came.verdict IS NULL) <> (left_.verdict IS NULL)) p
        WHERE p.n = c.n AND c.verdict IS NULL
    """


def _excluding(exclusion: Exclusion, left: str, right: str) -> str:
    return " AND ".join(
        f"{left}.e{place} {operator} {right}.e{place}" for place, operator in enumerate(exclusion.operators)
    )


def _excluded_by_earlier(work: Work, exclusion: Exclusion) -> str:
    """Of rows that exclude each other the first stays, and the next that it does not exclude: a row which is put aside
    itself puts none aside."""
    return f"""
        WITH coming AS MATERIALIZED (
            SELECT o.*, row_number() OVER (ORDER BY g.op DESC, o._sp_n) AS place
            FROM {_rows(exclusion, work.out, "_sp_n")} o JOIN {work.change} g ON g.n = o._sp_n WHERE {applied("g")}
        ), pairs AS MATERIALIZED (
            SELECT l._sp_n AS later, f._sp_n AS earlier FROM coming f
            JOIN coming l ON f.place < l.place AND {_excluding(exclusion, "f", "l")}
        )
        UPDATE {work.change} c SET verdict = 'unique', reason = {literal(f"{exclusion.name} excludes it")}
        FROM pairs p WHERE p.later = c.n AND NOT EXISTS (SELECT FROM pairs q WHERE q.later = p.earlier)
    """


def _excluded_by_staying(work: Work, exclusion: Exclusion) -> str:
    """A row of the twin that stays excludes it."""
    rows = _rows(exclusion, rows_of(work.old), "ctid AS tid, tableoid AS rel")
    return f"""
        UPDATE {work.change} c SET verdict = 'unique', reason = {literal(f"{exclusion.name} excludes it")}
        FROM {_rows(exclusion, work.out, "_sp_n")} o JOIN {rows} t ON {_excluding(exclusion, "t", "o")}
        LEFT JOIN {work.change} g ON g.row_tid = t.tid AND g.row_rel = t.rel AND {applied("g")}
        WHERE o._sp_n = c.n AND {applied()} AND g.n IS NULL
    """


def _pairs(left: str, columns: Sequence[str], right: str, others: Sequence[str]) -> str:
    return " AND ".join(
        f"{left}.{quote(one)} = {right}.{quote(other)}" for one, other in zip(columns, others, strict=True)
    )


def _orphans(child: Work, key: ForeignKey, old: Catalogue, parent: Work | None, by_index: bool) -> str:
    """Rows whose parent will not be there. Most parents came with them: only others are asked of the twin's table.

    A row that had no parent before either (the constraint is NOT VALID, or was filled past it) may be changed, as long
    as it names the same one: so PostgreSQL has it too. Such rows are noted in `sp_spared`.
    """
    table = old.tables[key.parent]
    if key.period:
        filled = " AND ".join(f"o.{quote(name)} {FILLED}" for name in key.columns)
        return f"""
            UPDATE {child.change} c SET verdict = 'foreign key', reason = {literal(_not_there(table, key))}
            FROM {_only(child.out, key.condition)} o WHERE o._sp_n = c.n AND {applied()} AND {filled}
              AND NOT {covered(key, "o", _standing(table, key, parent))}
        """
    names = [f"k{place}" for place in range(len(key.columns))]
    keys = ", ".join(f"o.{quote(column)} AS {name}" for column, name in zip(key.columns, names, strict=True))
    own = " AND ".join(f"o.{quote(name)} {FILLED}" for name in key.columns)
    staying, coming = "", "false"
    if parent is not None:
        # A new row whose key another one of the twin's has: who refers to it means the new one, which is put aside.
        staying = (
            f" AND NOT EXISTS (SELECT FROM {parent.change} g WHERE g.row_tid = t.ctid AND g.row_rel = t.tableoid "
            f"AND ({applied('g')} OR NOT g.existed))"
        )
        coming = _coming(parent, key, "w", names)
    children = _only(child.out, key.condition)
    parents = _only(rows_of(table), key.parent_condition, "ctid, tableoid, ")
    return f"""
        WITH wanted AS MATERIALIZED (
            SELECT DISTINCT {keys} FROM {children} o JOIN {child.change} c ON c.n = o._sp_n
            WHERE {applied()} AND {own}
        ), left_over AS MATERIALIZED (SELECT * FROM wanted w WHERE NOT {coming}
        ), missing AS MATERIALIZED (
            SELECT * FROM left_over w WHERE NOT EXISTS (
                SELECT FROM {parents} t WHERE {refers(key, "t", "w", names)}{staying}
                {"OFFSET 0" if by_index else ""})
        ), orphan AS MATERIALIZED (
            SELECT o._sp_n, EXISTS (
                       SELECT FROM {rows_of(child.old)} b
                       WHERE b.ctid = c.row_tid AND b.tableoid = c.row_rel AND {_pairs("b", key.columns, "w", names)})
                   AND NOT EXISTS (SELECT FROM {parents} t WHERE {refers(key, "t", "w", names)}) AS spared
            FROM {children} o JOIN missing w ON {_pairs("o", key.columns, "w", names)}
            JOIN {child.change} c ON c.n = o._sp_n WHERE {applied()}
        ), noted AS (
            INSERT INTO pg_temp.sp_spared SELECT {literal(child.old.name)}, {literal(key.name)}, _sp_n
            FROM orphan WHERE spared
        )
        UPDATE {child.change} c SET verdict = 'foreign key', reason = {literal(_not_there(table, key))}
        FROM orphan o WHERE o._sp_n = c.n AND NOT o.spared
    """


@dataclass
class _Chain:
    """New rows of a table that refers to itself, each to the one before it: where the first is put aside, so are all,
    and a round for each of them would take as many rounds as there are rows."""

    work: Work
    key: ForeignKey
    _indexed: bool = False

    def put_aside(self, connection: Connection) -> int:
        """Put aside what refers, over others, to new rows that are put aside; gives how many rows."""
        work, key = self.work, self.key
        if not self._indexed:
            columns = ", ".join(map(quote, key.columns))
            run(connection, f"CREATE INDEX ON {work.out} ({columns})")
            self._indexed = True
        new = "c.op = 'insert' AND c.row_tid IS NULL"
        return run(
            connection,
            f"""
            WITH RECURSIVE lost AS (
                SELECT c.n FROM {work.change} c WHERE {new} AND c.verdict IS NOT NULL
                UNION
                SELECT c.n FROM lost l JOIN {work.out} p ON p._sp_n = l.n
                JOIN {work.out} o ON {refers(key, "p", "o")}
                JOIN {work.change} c ON c.n = o._sp_n WHERE {new} AND c.n <> l.n
            )
            UPDATE {work.change} c SET verdict = 'foreign key', reason = {literal(_not_there(work.old, key))}
            FROM lost l WHERE l.n = c.n AND c.verdict IS NULL
            """,
        )


def _is_chain(work: Work, key: ForeignKey) -> bool:
    """Whether rows refer to others of their table by the key that rows are matched by: a new one has no other of it."""
    own = key.parent == work.old.name and not key.period
    return own and set(key.parent_columns) == {name for name, _ in work.rule.key}


def _not_there(parent: Table, key: ForeignKey) -> str:
    return f"the row of {parent.relation} that {', '.join(key.columns)} refers to is not there"


def _only(rows: str, condition: str | None, besides: str = "") -> str:
    """Rows that belong into a partition; all of them, where there is no condition."""
    return rows if condition is None else f"(SELECT {besides}* FROM {rows} WHERE {condition})"


def _standing(table: Table, key: ForeignKey, parent: Work | None) -> str:
    """The parents that there will be: those of the twin that stay, and those that are written."""
    staying = _only(rows_of(table), key.parent_condition, "ctid, tableoid, ")
    if parent is None:
        return staying
    names = ", ".join(map(quote, key.parent_columns))
    return (
        f"(SELECT {names} FROM {staying} t WHERE NOT EXISTS (SELECT FROM {parent.change} g WHERE g.row_tid = t.ctid "
        f"AND g.row_rel = t.tableoid AND ({applied('g')} OR NOT g.existed)) UNION ALL "
        f"SELECT {names} FROM {_only(parent.out, key.parent_condition)} w JOIN {parent.change} g ON g.n = w._sp_n "
        f"WHERE {applied('g')})"
    )


def _coming(parent: Work, key: ForeignKey, row: str, columns: Sequence[str]) -> str:
    """Whether a row's parent is among those that are written."""
    return (
        f"EXISTS (SELECT FROM {_only(parent.out, key.parent_condition)} p JOIN {parent.change} g ON g.n = p._sp_n "
        f"WHERE {refers(key, 'p', row, columns)} AND {applied('g')})"
    )


def _still_needed(child: str, key: ForeignKey, old: Catalogue, parent: Work, works: Work | None) -> str:
    """Rows to be removed, or to get another key, that a staying row of the twin refers to."""
    table = old.tables[child]
    staying = ""
    if works is not None:
        staying = (
            f" AND NOT EXISTS (SELECT FROM {works.change} g WHERE g.row_tid = t.ctid AND g.row_rel = t.tableoid "
            f"AND {applied('g')})"
        )
    reason = f"rows of {table.relation} refer to it"
    # An update that was matched by these columns has left them as they were.
    matched = set(key.parent_columns) <= {name for name, _ in parent.rule.key}
    which = "c.op = 'delete'" if matched else "c.op IN ('delete', 'update')"
    parents = _only(rows_of(parent.old), key.parent_condition, "ctid, tableoid, ")
    children = _only(rows_of(table), key.condition, "ctid, tableoid, ")
    if key.period:
        return f"""
            UPDATE {parent.change} c SET verdict = 'foreign key', reason = {literal(reason)}
            FROM {parents} p JOIN {children} t ON {overlaps(key, "p", "t")}
            WHERE p.ctid = c.row_tid AND p.tableoid = c.row_rel AND {applied()}{staying}
              AND NOT {covered(key, "t", _standing(parent.old, key, parent))}
        """
    return f"""
        UPDATE {parent.change} c SET verdict = 'foreign key', reason = {literal(reason)}
        FROM {parents} p JOIN {children} t ON {refers(key, "p", "t")}
        WHERE p.ctid = c.row_tid AND p.tableoid = c.row_rel AND {applied()} AND {which}
          AND NOT EXISTS (SELECT FROM {_only(parent.out, key.parent_condition)} s
                          JOIN {parent.change} g ON g.n = s._sp_n
                          WHERE {_pairs("s", key.parent_columns, "p", key.parent_columns)}
                            AND {applied("g")}){staying}
    """


def violations(connection: Connection, works: Sequence[Work], old: Catalogue) -> tuple[str, ...]:
    """After the merge: foreign keys of the written rows that do not hold, asked once more of what stands there now.

    A parent that was written with them is there: the merge has counted what it wrote. Spared ones are left out.
    """
    found = []
    by_name = {work.old.name: work for work in works}
    for work in works:
        for key in (*work.old.foreign_keys, *work.old.partial_keys):
            own = " AND ".join(f"o.{quote(name)} {FILLED}" for name in key.columns)
            columns = ", ".join(f"o.{quote(name)}" for name in key.columns)
            parent = old.tables[key.parent]
            if key.parent in by_name and not key.period:
                own += f" AND NOT {_coming(by_name[key.parent], key, 'o', key.columns)}"
            same = f"s.n = c.n AND s.relation = {literal(work.old.name)} AND s.constraint_ = {literal(key.name)}"
            offset = "OFFSET 0" if few(connection, work.change, parent) else ""
            parents = _only(rows_of(parent), key.parent_condition)
            there = f"EXISTS (SELECT FROM {parents} p WHERE {refers(key, 'p', 'o')} {offset})"
            row = connection.execute(
                sql.SQL(
                    f"SELECT coalesce(sum(o.times), 0) FROM (SELECT {columns}, count(*) AS times FROM "
                    f"{_only(work.out, key.condition)} o "
                    f"JOIN {work.change} c ON c.n = o._sp_n WHERE {own} AND {applied()} "
                    f"AND NOT EXISTS (SELECT FROM pg_temp.sp_spared s WHERE {same}) GROUP BY {columns} OFFSET 0) o "
                    f"WHERE NOT {covered(key, 'o', parents) if key.period else there}"
                )
            ).fetchone()
            if row is not None and row[0]:
                found.append(f"{work.old.name}.{key.name}: {row[0]} rows without a parent")
    return tuple(found)
