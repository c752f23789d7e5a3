"""A table's replica identity that Safepoint set for a while, and putting back what stood there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from safepoint.postgres.connections import Connection

PRESENT = """
SELECT c.relreplident::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


@dataclass(frozen=True)
class Identity:
    """A replica identity that was set for the capture, and what stood there before.

    Letters as in `pg_class.relreplident`: d default, i index, f full, n nothing.
    """

    schema: str
    relation: str
    prior: str
    prior_index: str | None
    now: Literal["d", "i", "f"]
    now_index: str | None = None

    def statement(self) -> sql.Composed:
        """Set it."""
        return _alter(self.schema, self.relation, self.now, self.now_index)


def restore(connection: Connection, identity: Identity) -> bool:
    """Put back what stood there before, unless someone changed it since or the table is gone; gives whether it did."""
    row = connection.execute(PRESENT, (identity.schema, identity.relation)).fetchone()
    if row is None or row[0] != identity.now:
        return False
    # An index that had been dropped cannot be named again; without it the identity was nothing in effect.
    prior = "n" if identity.prior == "i" and identity.prior_index is None else identity.prior
    connection.execute(_alter(identity.schema, identity.relation, prior, identity.prior_index))
    return True


def _alter(schema: str, relation: str, identity: str, index: str | None) -> sql.Composed:
    words = {"d": sql.SQL("DEFAULT"), "f": sql.SQL("FULL"), "n": sql.SQL("NOTHING")}
    kind = words[identity] if identity != "i" else sql.SQL("USING INDEX {}").format(sql.Identifier(index or ""))
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(sql.Identifier(schema, relation), kind)
