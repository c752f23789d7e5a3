"""Rows that an UPDATE took to another partition: whoever reads the log sees a deletion and an insertion."""

from __future__ import annotations

from safepoint.wayback.replay.staged import DELETE, INSERT
from safepoint.wayback.replay.work import Work


def left_partition(work: Work, same: str) -> str:
    """The join that finds the deletion `p` that belongs to a staged insertion `s`.

    It is what was done to the table just before, in another partition. Between the two may stand what triggers wrote to
    other tables: theirs fire before the insertion, or, where triggers capture, before it is noted.

    Args:
        same: what rows `p` and `s` have in common then, as SQL.
    """
    return (
        f" LEFT JOIN (SELECT _sp_at AS at, lag(_sp_at) OVER (ORDER BY _sp_at) AS before FROM {work.stage}) b "
        f"ON b.at = s._sp_at AND s._sp_at & 3 = {INSERT} "
        f"LEFT JOIN {work.stage} p ON p._sp_at = b.before AND p._sp_at & 3 = {DELETE} "
        f"AND p._sp_tx = s._sp_tx AND p._sp_leaf <> s._sp_leaf AND {same}"
    )
