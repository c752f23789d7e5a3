"""A rehearsal says of when the rows are that it migrated: who mended the live ones since would rehearse them again."""

from __future__ import annotations

import pytest

from safepoint.cli.rehearse import _as_of

SNAPSHOT = {"taken_at": "2026-11-27T08:05:00+02:00"}


@pytest.mark.parametrize("verdict", ["go", "no-go"])
def test_how_old_they_are_is_said_and_what_to_do_where_that_may_be_the_reason(verdict: str) -> None:
    told = _as_of({"snapshot": SNAPSHOT, "made_at": "2026-11-27T08:10:30+00:00", "verdict": verdict})
    assert told.startswith("Its rows are those of 2026-11-27 06:05 UTC, 2 h 05 min before.")
    assert ("`safepoint backup`" in told) == (verdict == "no-go")


def test_a_clock_that_went_back_makes_no_age() -> None:
    told = _as_of({"snapshot": SNAPSHOT, "made_at": "2026-11-27T05:00:00+00:00", "verdict": "go"})
    assert told.endswith("0.00 s before.")
