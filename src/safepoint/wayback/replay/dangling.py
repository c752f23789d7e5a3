"""What was carried and names a row that was put aside, where no constraint looks for it: it is told, and stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.expressions import FILLED, literal, quote, written
from safepoint.wayback.mapping.mapping import Loose, TableRule, WayBack
from safepoint.wayback.replay.passed_over import KIND
from safepoint.wayback.replay.staged import TRANSACTIONS
from safepoint.wayback.replay.stashing import TRANSACTION
from safepoint.wayback.replay.statements import ask, run
from safepoint.wayback.replay.whereabouts import key_of
from safepoint.wayback.replay.work import Work, quoted, rows_of

_INDEXED: Final = {"smallint": "int8", "integer": "int8", "bigint": "int8", "uuid": "uuid"}


def find_dangling(connection: Connection, works: Sequence[Work], mapping: WayBack, old: Catalogue) -> int:
    """Note them in `safepoint.dangling`, once all that was put aside is noted; gives how many rows."""
    query = f"SELECT DISTINCT relation FROM safepoint.put_aside WHERE kind <> '{KIND}'"
    aside = {row[0] for row in ask(connection, query)}
    rules = {rule.old: rule for rule in mapping.tables}
    found = 0
    for work in works if aside else ():
        for loose in (one for one in mapping.loose if one.table == work.old.name):
            models: list[tuple[str | None, str | None]] = [(None, loose.parent)]
            if loose.kind is not None:
                models = [*mapping.labels.items()]
            for label, parent in models:
                if parent is not None and parent in aside and len(rules[parent].key) == 1 and parent != loose.types:
                    found += _note(connection, work, loose, label, rules[parent], old)
    return found


def _note(
    connection: Connection, work: Work, loose: Loose, label: str | None, parent: TableRule, old: Catalogue
) -> int:
    ((own, key),) = parent.key
    table = old.tables[parent.old]
    value = f'({written(f"o.{quote(loose.column)}")}) COLLATE "C"'
    # Only what is of the old key's type for sure is cast to it.
    same = any(one.column == own and one.kind in ("same", "renamed") for one in parent.columns)
    kind = _INDEXED.get(table.by_name[own].base) if same else None
    text = f'({written(f"p.{quote(own)}")}) COLLATE "C"'
    there = f"p.{quote(own)} = w.value::{kind}" if kind else f"{text} = w.value"
    model = "true"
    if label is not None and loose.kind is not None and loose.types is not None:
        types = quoted(old.tables[loose.types])
        model = f"o.{quote(loose.kind)} IN (SELECT id FROM {types} WHERE app_label || '.' || model = {literal(label)})"
    reason = f"the row of {table.relation} that {loose.column} names was not carried"
    return run(
        connection,
        f"WITH w AS MATERIALIZED (SELECT c.n, {value} AS value FROM {work.change} c JOIN {work.out} o ON o._sp_n = c.n "
        f"WHERE c.verdict IS NULL AND c.ends AND o.{quote(loose.column)} {FILLED} AND {model} AND {value} IN ("
        f"SELECT a.key ->> {literal(key)} FROM safepoint.put_aside a WHERE a.relation = {literal(parent.old)})) "
        f"INSERT INTO safepoint.dangling SELECT {literal(work.old.name)}, {key_of(work)}, {literal(reason)}, "
        f"{TRANSACTION} FROM w JOIN {work.change} c ON c.n = w.n "
        f"JOIN {work.stage} s ON s._sp_at = {'c.n' if work.rule.key else 'c.source'} "
        f"JOIN pg_temp.{TRANSACTIONS} t ON t.tx = c.tx "
        f"WHERE NOT EXISTS (SELECT FROM {rows_of(table)} p WHERE {there} OFFSET 0)",
    )
