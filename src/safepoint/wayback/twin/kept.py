"""Migrated databases that rollbacks have left under other names: never dropped here, and easily forgotten."""

from __future__ import annotations

from safepoint.postgres.target import Target
from safepoint.wayback.names import kept_name, read_mark
from safepoint.wayback.sessions import asking, at_maintenance

_MARKED = """
SELECT datname, shobj_description(oid, 'pg_database'), pg_database_size(oid) FROM pg_database
WHERE shobj_description(oid, 'pg_database') LIKE 'kept by Safepoint for launch %' ORDER BY datname
"""


def kept_databases(target: Target, *, maintenance: str = "postgres") -> dict[str, int]:
    """The name and the size in bytes of each that was this database once."""
    with at_maintenance(target, maintenance) as connection, asking("Looking for kept databases", target.dbname):
        rows = connection.execute(_MARKED).fetchall()
    marks = ((str(name), read_mark(comment), int(size)) for name, comment, size in rows)
    return {name: size for name, mark, size in marks if mark and name == kept_name(target.dbname, mark.launch_id)}
