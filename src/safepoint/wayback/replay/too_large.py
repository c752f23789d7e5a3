"""Rows that are too large for a line of the stash: they are told, and keep no others from being carried or kept.

A value of jsonb holds 256 MB at most, all of a row's together, and PostgreSQL writes no text of more than 1 GB: in JSON
a control character is six times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.replay.staged import MOST, Sink

LEFT: Final = "too large to be kept for the next launch, and only in the database that is kept"
KIND: Final = "size"


def fits(texts: Sequence[str]) -> str:
    """Whether texts, SQL for each, can stand in one line together. What is laid away is not read for it."""
    return f"({_sum(texts)} <= {MOST})" if texts else "true"


def row_fits(sink: Sink, row: str, columns: Sequence[str]) -> str:
    """The same of columns of a staged row; `true` where none of what was staged can be so large."""
    return fits([f"{row}.{quote(name)}" for name in columns]) if sink.bulky else "true"


def _sum(texts: Sequence[str]) -> str:
    """In halves: a sum of 1,600 terms one after another is as deep as it is long."""
    if len(texts) == 1:
        return f"coalesce(octet_length({texts[0]}), 0)::int8"
    half = len(texts) // 2
    return f"({_sum(texts[:half])} + {_sum(texts[half:])})"
