"""Partitions that were made after the launch, as for a new month: the twin gets the same ones, a place for their rows.

Those that the launch itself made are not among them: the next one makes them again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.mapping import WayBack

# From the root down; a partition may have partitions of its own.
_PARTITIONS: Final = """
SELECT c.oid::int8, a.nspname, c.relname, b.nspname, p.relname, r.nspname || '.' || q.relname,
       pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid)
FROM pg_class q JOIN pg_namespace r ON r.oid = q.relnamespace CROSS JOIN LATERAL pg_partition_tree(q.oid) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace a ON a.oid = c.relnamespace
JOIN pg_class p ON p.oid = t.parentrelid JOIN pg_namespace b ON b.oid = p.relnamespace
WHERE q.relkind = 'p' AND NOT q.relispartition AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
ORDER BY t.level, 2, 3
"""
_OWNER: Final = """
SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


def make_partitions(
    connection: Connection, source: Connection, mapping: WayBack, old: Catalogue, then: Collection[int]
) -> tuple[str, ...]:
    """Make them in the twin, inside the caller's transaction; gives those that were made.

    One that cannot be made (its rows stand in a default partition, its name is another table's) is left out: its rows
    go where there is a place for them, or are put aside.

    Args:
        then: the relations that were there when the capture began, by number.
    """
    parted = {rule.new: old.tables[rule.old] for rule in mapping.tables if rule.old in old.tables}
    parted = {name: table for name, table in parted.items() if table.partitioned}
    made = []
    for oid, schema, name, above, parent, root, bound, key in source.execute(_PARTITIONS).fetchall() if parted else ():
        if root not in parted or oid in then or f"{schema}.{name}" in parted[root].leaves:
            continue
        table = parted[root].identifier if f"{above}.{parent}" == root else sql.Identifier(above, parent)
        if _made(
            connection, sql.Identifier(schema, name), table, bound, key, parted[root].schema, parted[root].relation
        ):
            made.append(f"{schema}.{name}")
    return tuple(made)


def _made(
    connection: Connection,
    partition: sql.Identifier,
    table: sql.Identifier,
    bound: str,
    key: str | None,
    schema: str,
    relation: str,
) -> bool:
    further = sql.SQL(f" PARTITION BY {key}" if key else "")
    words = {"partition": partition, "table": table, "bound": sql.SQL(bound), "further": further}
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("CREATE TABLE {partition} PARTITION OF {table} {bound}{further}").format(**words)
            )
            (owner,) = connection.execute(_OWNER, [schema, relation]).fetchone() or ("",)
            connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(partition, sql.Identifier(owner)))
    except psycopg.Error:
        return False
    return True
