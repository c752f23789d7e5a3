"""Schemas of Safepoint's own in the application's database: nobody else reads, or writes, what is kept there."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection

# Nobody reaches what lies in a schema without a right on the schema itself.
_OTHERS: Final = """
SELECT DISTINCT r.rolname FROM pg_namespace n
CROSS JOIN aclexplode(n.nspacl) e LEFT JOIN pg_roles r ON r.oid = e.grantee
WHERE n.nspname = %s AND e.grantee <> n.nspowner AND (e.grantee = 0 OR r.rolname IS NOT NULL)
"""


def keep_to_ourselves(connection: Connection, schema: str) -> None:
    """Take the rights on a schema that was just made from all but its owner.

    A schema of ours is born with such rights where our role has default privileges (ALTER DEFAULT PRIVILEGES ... ON
    SCHEMAS), and its tables have theirs: they hold rows of every table, also of those that these roles may not read.
    """
    for (role,) in connection.execute(_OTHERS, [schema]).fetchall():
        grantee = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
        connection.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(sql.Identifier(schema), grantee))
