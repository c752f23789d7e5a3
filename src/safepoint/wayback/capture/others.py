"""Logical slots and subscriptions of others: they are bound to a database's oid, whatever it is called.

So a swap leaves them with the database that leaves the live name: consumers get nothing of the one that takes it, and
what a subscription brings does not come there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.postgres.connections import Connection

_STAYING: Final = """
SELECT format('the logical slot %%s (%%s): its consumer gets nothing of the database that is live then, and it keeps '
              'the log until it is dropped', slot_name, plugin)
FROM pg_replication_slots WHERE database = %(name)s AND NOT temporary AND slot_name NOT LIKE 'safepoint\\_%%'
UNION ALL
SELECT format('the subscription %%I: what it brings comes there, once it is enabled again', subname)
FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE d.datname = %(name)s ORDER BY 1
"""


def staying_with(connection: Connection, database: str) -> list[str]:
    """A sentence for each. Any database of the server will do."""
    return [str(row[0]) for row in connection.execute(_STAYING, {"name": database}).fetchall()]


def left_with(database: str, staying: Sequence[str]) -> str:
    """What a swap left with the database that is kept under this name, as the end of a line. Pure."""
    return f"; with {database} stays {'; and '.join(staying)}" if staying else ""
