"""Changes that belong together because they are of the same rows: joined, until each group knows all of its own."""

from __future__ import annotations

from collections.abc import Sequence

from safepoint.postgres.connections import Connection
from safepoint.wayback.replay.statements import run


def join_groups(connection: Connection, table: str, own: str, shared: Sequence[str]) -> None:
    """Give all that shares something, one over another, the same `grp`: the least `own` among them.

    Args:
        table: has the columns `own`, a number, and `grp`, which is equal to it at first.
        shared: queries for pairs: `own`, and `what`; who has the same `what` belongs together.
    """
    run(connection, f"ANALYZE {table}")
    while any([_lower(connection, table, own, one) for one in shared]):  # noqa: C419 - all of them
        # A chain of neighbours is gone through by leaps, or it would take as many rounds as it is long.
        while run(
            connection, f"UPDATE {table} x SET grp = y.grp FROM {table} y WHERE y.{own} = x.grp AND y.grp < x.grp"
        ):
            pass


def _lower(connection: Connection, table: str, own: str, shared: str) -> int:
    low = "min(x.grp) OVER (PARTITION BY s.what)"
    pairs = f"SELECT x.grp, {low} AS low FROM {table} x JOIN ({shared}) s ON s.{own} = x.{own}"
    least = f"SELECT grp AS former, min(low) AS grp FROM ({pairs}) p GROUP BY grp HAVING min(low) < grp"
    return run(connection, f"UPDATE {table} x SET grp = m.grp FROM ({least}) m WHERE x.grp = m.former")
