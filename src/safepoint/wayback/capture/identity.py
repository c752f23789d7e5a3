"""Replica identities: by what the log names a changed row. A published table needs one for UPDATE and DELETE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.replica_identity import Identity
from safepoint.postgres.rows import FILLED
from safepoint.wayback.mapping.catalogue import shared_identity

# A primary key that is DEFERRABLE does not serve; a unique index serves when it is whole and its columns are NOT NULL
# (ALTER TABLE ... REPLICA IDENTITY USING INDEX asks the same, but not of the rows: see FILLED). A partition's index (i)
# serves when it belongs to one of its root (r): the way back goes by the root's key, and where there is none, counts
# whole rows. Other tables are their own roots here. A key that is computed serves nobody: before PostgreSQL 18 the log
# has no generated column, and the old database computes its own. From 18 on UPDATE and DELETE fail on a table whose
# identity holds a generated column that the publication does not send; before, they do not. Ours send the stored ones
# there; virtual ones nobody can.
_ROOTED = """
pg_index i JOIN pg_index r ON r.indexrelid = coalesce(pg_partition_root(i.indexrelid)::oid, i.indexrelid)
       AND r.indrelid = coalesce(pg_partition_root(c.oid)::oid, c.oid) AND i.indrelid = c.oid
       AND i.indisvalid AND r.indisvalid AND i.indimmediate
       AND NOT EXISTS (SELECT FROM pg_attribute g WHERE g.attrelid = r.indrelid AND g.attgenerated <> ''
                       AND g.attnum = ANY(r.indkey[0:r.indnkeyatts - 1]))
"""
# What all partitions share is asked once for each root, and not for each of them.
TABLES = f"""
WITH shared AS MATERIALIZED (
    SELECT r.indexrelid FROM pg_index r JOIN pg_class t ON t.oid = r.indrelid
    WHERE r.indisreplident AND NOT t.relispartition AND {shared_identity("t", "r")}
)
SELECT n.nspname, c.relname, c.relreplident::text, c.relpersistence = 'u', c.relkind = 'p',
       pg_has_role(c.relowner, 'USAGE'),
       EXISTS (SELECT FROM {_ROOTED} WHERE i.indisprimary AND r.indisprimary),
       (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid),
       (SELECT x.relname FROM {_ROOTED} JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class o ON o.oid = r.indexrelid
        WHERE r.indisunique AND r.indpred IS NULL AND r.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM unnest(r.indkey[0:r.indnkeyatts - 1]) k
                          JOIN pg_attribute a ON a.attrelid = r.indrelid AND a.attnum = k WHERE NOT ({FILLED}))
        ORDER BY r.indnkeyatts, o.relname LIMIT 1),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped),
       EXISTS (SELECT FROM {_ROOTED} WHERE i.indisreplident AND r.indexrelid IN (SELECT indexrelid FROM shared))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
ORDER BY 1, 2
"""
# A table, or the partitions that have its rows.
_OF_THEM = """
SELECT DISTINCT n.nspname, c.relname
FROM pg_class r JOIN pg_namespace s ON s.oid = r.relnamespace
CROSS JOIN LATERAL (SELECT r.oid UNION SELECT relid FROM pg_partition_tree(r.oid)) t(oid)
JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND s.nspname || '.' || r.relname = ANY(%s)
"""


@dataclass(frozen=True)
class Table:
    """A table and what could name its rows: of a partition, what its root has.

    `own_index` is the one that REPLICA IDENTITY USING INDEX chose; of a partition it serves (`own_serves`) where its
    root and all other partitions have it, too.
    `full_fails`: as published, with REPLICA IDENTITY FULL, it would refuse the application's own UPDATE and DELETE.
    """

    schema: str
    relation: str
    identity: str
    unlogged: bool
    partitioned: bool
    owned: bool
    primary_key: bool
    own_index: str | None
    unique_index: str | None
    full_fails: bool
    own_serves: bool

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.relation}"

    @property
    def covered(self) -> bool:
        """Can its rows be named as it is, without harm to the application's own statements?"""
        by_key = (self.identity == "d" and self.primary_key) or (self.identity == "i" and self.own_serves)
        return by_key or (self.identity == "f" and not self.full_fails)

    @property
    def keyless(self) -> bool:
        """Are its rows named by all of their values, for want of a key?"""
        return not (self.partitioned or self.unlogged or self.primary_key or self.own_serves or self.unique_index)


@dataclass(frozen=True)
class Uncovered:
    """A table that the capture does not see, and why. `published_fails`: publishing it would harm the application."""

    table: str
    reason: str
    published_fails: bool = False


def survey(connection: Connection) -> list[Table]:
    """All tables that a capture could mean."""
    return [Table(*row) for row in connection.execute(TABLES).fetchall()]


def with_rows(connection: Connection, tables: Collection[str]) -> set[str]:
    """Of these tables, and their partitions, those that have rows."""
    found = connection.execute(_OF_THEM, [list(tables)]).fetchall()
    any_row = sql.SQL("SELECT FROM ONLY {} LIMIT 1")
    return {".".join(one) for one in found if connection.execute(any_row.format(sql.Identifier(*one))).rowcount}


def decide(tables: Sequence[Table], whole: Collection[str] = ()) -> tuple[list[Identity], list[Uncovered]]:
    """Which replica identities must be set, and which tables cannot be covered. Pure.

    Args:
        whole: tables of which the log is to say what a changed row was before, where that does no harm.
    """
    identities: list[Identity] = []
    uncovered: list[Uncovered] = []
    for table in tables:
        if table.unlogged:
            uncovered.append(Uncovered(table.name, "it is unlogged, so the write-ahead log knows nothing of its rows"))
        elif not table.owned:
            uncovered.append(Uncovered(table.name, "the conductor's role does not own it", published_fails=True))
        elif table.partitioned:
            continue  # it has no rows of its own
        elif table.name in whole and table.identity != "f" and not table.full_fails:
            identities.append(Identity(table.schema, table.relation, table.identity, table.own_index, "f"))
        elif table.covered:
            continue
        elif (chosen := _choice(table)) is not None:
            now, index = chosen
            prior = Identity(table.schema, table.relation, table.identity, table.own_index, now, index)
            identities.append(prior)
        else:
            reason = "it has no key, and REPLICA IDENTITY FULL with virtual columns makes UPDATE fail"
            uncovered.append(Uncovered(table.name, reason, published_fails=True))
    return identities, uncovered


def _choice(table: Table) -> tuple[Literal["d", "i", "f"], str | None] | None:
    if table.primary_key:
        return "d", None
    if table.unique_index is not None:
        return "i", table.unique_index
    return None if table.full_fails else ("f", None)
