"""The capture's checkpoint: an alarm before the server throws log away, not after."""

from __future__ import annotations

from typing import Any

import pytest

from safepoint.checkpoints.capture import judge

CALM: dict[str, Any] = {
    "transactions": 7,
    "retained": 10**6,
    "limit": 10**9,
    "status": "reserved",
    "safe": None,
    "idle_timeout": None,
    "every": 30.0,
}


def test_a_capture_that_is_read_in_time_passes_with_its_numbers() -> None:
    found = judge(**CALM)
    assert (found.verdict, found.value, found.limit) == ("pass", 10**6, 10**9)
    assert "7 transactions" in found.detail
    assert judge(**{**CALM, "status": "extended", "safe": 10**7, "idle_timeout": 3600.0}).verdict == "pass"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "unreserved"}, "wal_status unreserved"),
        ({"retained": 2 * 10**9}, "are allowed"),
        ({"safe": 10**5}, "max_slot_wal_keep_size"),
        ({"safe": -5}, "only 0"),
        ({"idle_timeout": 45.0}, "idle_replication_slot_timeout"),
    ],
)
def test_what_endangers_the_way_back_is_an_alarm_that_says_so(changes: dict[str, Any], said: str) -> None:
    found = judge(**{**CALM, **changes})
    assert found.verdict == "fail" and said in found.detail


def test_a_twin_that_is_no_longer_followed_is_said_and_is_no_alarm() -> None:
    found = judge(**CALM, follower="3 rows cannot be carried")
    assert found.verdict == "pass" and "3 rows cannot be carried" in found.detail
