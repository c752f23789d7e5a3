"""Which snapshots of a store that several plan files share are one's own."""

from __future__ import annotations

from datetime import UTC, datetime

from safepoint.backup.shelf import Listed
from safepoint.launch.snapshots.pruning import shared_out


def listed(name: str, source: str | None) -> Listed:
    return Listed(name, datetime(2026, 3, 1, tzinfo=UTC), 1, source is not None, ("offsite",), None, source=source)


MINE, THEIRS, UNKNOWN = listed("mine", "shop"), listed("theirs", "crm"), listed("damaged", None)


def test_what_does_not_say_whose_it_is_may_be_another_one_s_where_there_are_others() -> None:
    assert shared_out([MINE, THEIRS, UNKNOWN], "shop") == ([MINE], [THEIRS, UNKNOWN])


def test_in_a_store_of_one_s_own_it_is_one_s_own() -> None:
    assert shared_out([MINE, UNKNOWN], "shop") == ([MINE, UNKNOWN], [])
    assert shared_out([UNKNOWN], "shop") == ([UNKNOWN], [])
