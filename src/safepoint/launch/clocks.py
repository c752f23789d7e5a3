"""This machine's clock beside the server's: what people were promised by the hour must not go by one that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

APART: Final = timedelta(minutes=1)
"""By how much two clocks may differ that are both right; and by how much one may be set back without a word."""


def clock_ahead(server: Target) -> float:
    """Seconds that this machine's clock is before a server's.

    Raises:
        DatabaseError: it does not answer.
    """
    with connect(server) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        now = datetime.now(UTC)
    return 0.0 if row is None else float((now - row[0]).total_seconds())
