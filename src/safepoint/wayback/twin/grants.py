"""Grants on a database (its ACL): read, and given again with the same grantors. TEMPLATE does not copy them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection

# No row at all where the ACL is the built-in default, which a new database with the same owner has too.
GRANTS = """
SELECT grantor::regrole::text, g.rolname, e.grantee = 0, e.privilege_type, e.is_grantable, r.rolname
FROM pg_database d CROSS JOIN aclexplode(d.datacl) e
LEFT JOIN pg_roles g ON g.oid = e.grantee JOIN pg_roles r ON r.oid = e.grantor
WHERE d.oid = %s AND (e.grantee = 0 OR g.rolname IS NOT NULL)
ORDER BY 1, 2, 4
"""


@dataclass(frozen=True)
class Grant:
    """One privilege on a database. `grantee` None is PUBLIC."""

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


def database_grants(connection: Connection, oid: int) -> tuple[Grant, ...] | None:
    """The grants on a database; None where nothing was ever granted or revoked."""
    row = connection.execute("SELECT datacl IS NULL FROM pg_database WHERE oid = %s", (oid,)).fetchone()
    if row is None or row[0]:
        return None
    rows = connection.execute(GRANTS, (oid,)).fetchall()
    return tuple(
        Grant(grantor, None if public else grantee, privilege, grantable)
        for _, grantee, public, privilege, grantable, grantor in rows
    )


def in_order(grants: Sequence[Grant], owner: str) -> tuple[list[Grant], list[Grant]]:
    """Sort so that every grantor has the right to grant when its turn comes; also gives what cannot be sorted. Pure."""
    ready = {(owner, privilege) for privilege in {grant.privilege for grant in grants}}
    done: list[Grant] = []
    waiting = list(grants)
    while True:
        turn = [grant for grant in waiting if (grant.grantor, grant.privilege) in ready]
        if not turn:
            return done, waiting
        done += turn
        ready |= {(grant.grantee, grant.privilege) for grant in turn if grant.grantable and grant.grantee is not None}
        waiting = [grant for grant in waiting if grant not in turn]


def apply_grants(
    connection: Connection, database: str, owner: str, grants: Sequence[Grant] | None
) -> tuple[int, list[str]]:
    """Give a new database these grants, inside the caller's transaction; gives how many there are, and notes on what
    could not be the same."""
    if grants is None:
        return 0, []
    name = sql.Identifier(database)
    for grantee in (sql.SQL("PUBLIC"), sql.Identifier(owner)):
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, grantee))
    ordered, orphans = in_order(grants, owner)
    notes = [f"{grant} was not copied: its grantor has no right to grant" for grant in orphans]
    for grant in ordered:
        try:
            with connection.transaction():
                _grant(connection, name, grant, as_grantor=grant.grantor != owner)
        except psycopg.Error as error:
            with connection.transaction():
                _grant(connection, name, grant, as_grantor=False)
            notes.append(f"{grant} has another grantor now: {error.diag.message_primary}")
    return len(ordered), notes


def _grant(connection: Connection, name: sql.Identifier, grant: Grant, *, as_grantor: bool) -> None:
    # GRANT ... GRANTED BY takes only the current role, so the grantor's part is taken for one statement.
    if as_grantor:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(grant.grantor)))
    grantee = sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee)
    option = sql.SQL(" WITH GRANT OPTION") if grant.grantable else sql.SQL("")
    privilege = sql.SQL(_PRIVILEGES[grant.privilege])
    connection.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(privilege, name, grantee, option))
    if as_grantor:
        connection.execute("SET LOCAL ROLE NONE")


_PRIVILEGES = {"CREATE": "CREATE", "CONNECT": "CONNECT", "TEMPORARY": "TEMPORARY"}
