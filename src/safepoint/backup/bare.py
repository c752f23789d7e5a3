"""A new database without what it has from template0, where the source does not have that.

No dump drops it: an application whose tables are all in schemas of its own (or that renamed `public`) would get an
empty `public` beside them, and one without PL/pgSQL that language.
"""

from __future__ import annotations

from contextlib import suppress

import psycopg

from safepoint.backup.prints import Fingerprint
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target


def strip(target: Target, source: Fingerprint) -> None:
    """Take it out of a database that was made just now. What the login may not drop stays, and a comparison tells it.

    Raises:
        DatabaseError: the server does not answer.
    """
    unwanted = []
    if "schema public" not in source.ownership:
        unwanted.append("drop schema if exists public")
    if "plpgsql" not in source.extensions:
        unwanted.append("drop extension if exists plpgsql")
    if not unwanted:
        return
    with connect(target) as connection:
        for statement in unwanted:
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
