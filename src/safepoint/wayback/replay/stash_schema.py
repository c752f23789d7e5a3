"""The stash as a table of the live database, for queries and joins, until the launch is retired.

It is what is left of a replay's records once the twin is the live database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import SCHEMA_COMMENT, made_by, short_id

_PURPOSE: Final = "stash"


def schema_name(launch_id: str) -> str:
    """The schema in which a launch's stash can be queried after its rollback, until it is retired."""
    return f"safepoint_stash_{short_id(launch_id)}"


def show_in_database(connection: Connection, launch_id: str) -> bool:
    """Of the replay's records leave only the stash, in a schema of its own; whether there was anything to leave."""
    name = schema_name(launch_id)
    row = connection.execute("SELECT EXISTS (SELECT FROM safepoint.stash)").fetchone()
    if row is None or not row[0] or connection.execute("SELECT to_regnamespace(%s)", [name]).fetchone() != (None,):
        return False
    with connection.transaction():
        connection.execute(
            "DROP TABLE safepoint.replays, safepoint.put_aside, safepoint.transactions, safepoint.dangling"
        )
        connection.execute(sql.SQL("ALTER SCHEMA safepoint RENAME TO {}").format(sql.Identifier(name)))
        mark = sql.Literal(made_by(launch_id, _PURPOSE))
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), mark))
    return True


def drop_from_database(target: Target, launches: Sequence[str]) -> list[str]:
    """Remove the stashes of these launches from the database; the files stay. Gives the schemas that are gone."""
    gone = []
    with connect(target, application_name="safepoint stash", lock_timeout=5) as connection:
        for launch_id in launches:
            name = schema_name(launch_id)
            if connection.execute(SCHEMA_COMMENT, [name]).fetchone() == (made_by(launch_id, _PURPOSE),):
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
                gone.append(name)
    return gone
