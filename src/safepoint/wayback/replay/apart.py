"""What was a partition until after the launch has its rows still, as a table: where this login may read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.mapping.partitions import with_apart

# Through its former table it could be read by whoever may read that one.
_READABLE: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s) AND has_schema_privilege(n.oid, 'USAGE')
  AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)
"""


def find_apart(source: Connection, new: Catalogue, partitions: Mapping[str, str], mapping: WayBack) -> Catalogue:
    """The migrated database's catalogue with them (`Table.apart`).

    Args:
        partitions: see `partitions.former`.
        mapping: as it was proven.
    """
    if not partitions:
        return new
    may = {row[0] for row in source.execute(_READABLE, [[*partitions]]).fetchall()}
    return with_apart(new, {leaf: table for leaf, table in partitions.items() if leaf in may}, mapping)
