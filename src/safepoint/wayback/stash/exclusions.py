"""Deferrable exclusion constraints, asked of what was re-attached: while triggers are silent, PostgreSQL never does.

No query tells beforehand what a row's expressions will be. So all is written, looked at, and taken back where something
breaks one; then it is written again without the rows that are in the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Exclusion, Table
from safepoint.wayback.mapping.expressions import literal
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.work import rows_of
from safepoint.wayback.stash.whole_rows import WRITTEN, match

Pair = tuple[int | None, int | None]
"""Two rows that must not both stand, by their numbers in `sp_stash`; None is one that was not written."""


def broken(connection: Connection, table: Table, key: Sequence[str], which: str) -> tuple[str, list[Pair]] | None:
    """The first one that does not hold for what this transaction wrote, by its name, with the rows; None where all do.

    Args:
        key: the columns by which the stash names the table's rows.
        which: the condition on `sp_stash` for those that were to be written.
    """
    for exclusion in table.exclusions:
        run(connection, "DROP TABLE IF EXISTS pg_temp.sp_pairs")
        if run(connection, f"CREATE TEMP TABLE sp_pairs ON COMMIT DROP AS {_pairs(table, exclusion)}"):
            numbers = (
                f"SELECT o.rel, o.tid, min(s.n) AS n FROM (SELECT rel, tid FROM pg_temp.sp_pairs WHERE new "
                f"UNION SELECT other_rel, other_tid FROM pg_temp.sp_pairs WHERE other_new) o "
                f"JOIN {rows_of(table)} t ON t.ctid = o.tid AND t.tableoid = o.rel "
                f"JOIN pg_temp.sp_stash s ON s.relation = {literal(table.name)} AND {which} AND {match(table, key)} "
                f"GROUP BY 1, 2"
            )
            found = ask(
                connection,
                f"WITH numbers AS MATERIALIZED ({numbers}) SELECT a.n, b.n FROM pg_temp.sp_pairs p "
                f"LEFT JOIN numbers a ON (a.rel, a.tid) = (p.rel, p.tid) "
                f"LEFT JOIN numbers b ON (b.rel, b.tid) = (p.other_rel, p.other_tid)",
            )
            return exclusion.name, [(one, other) for one, other in found]
    return None


def _pairs(table: Table, exclusion: Exclusion) -> str:
    keys = ", ".join(f"({expression}) AS e{place}" for place, expression in enumerate(exclusion.expressions))
    where = f" WHERE {exclusion.predicate}" if exclusion.predicate else ""
    rows = f"(SELECT tableoid AS rel, ctid AS tid, {WRITTEN} AS new, {keys} FROM {rows_of(table)} c{where})"
    both = " AND ".join(f"a.e{place} {one} b.e{place}" for place, one in enumerate(exclusion.operators))
    return (
        f"SELECT a.rel, a.tid, a.new, b.rel AS other_rel, b.tid AS other_tid, b.new AS other_new "
        f"FROM {rows} a JOIN {rows} b ON (a.rel, a.tid) < (b.rel, b.tid) AND {both} WHERE a.new OR b.new"
    )


def to_leave(pairs: Sequence[Pair]) -> set[int]:
    """The rows that are not written: those that one which stands is in the way of; else the later of two, unless the
    earlier one is not written itself. Empty where nobody knows which they are. Pure."""
    alone = {one if one is not None else other for one, other in pairs if (one is None) != (other is None)}
    if alone:
        return {n for n in alone if n is not None}
    both = [(min(one, other), max(one, other)) for one, other in pairs if one is not None and other is not None]
    later = {last for _, last in both}
    return {last for first, last in both if first not in later}
