"""The gate before the window, on a machine whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from safepoint.launch.verbs import gates
from safepoint.postgres.target import Target


def test_a_machine_whose_clock_is_hours_ahead_does_not_begin_the_window_without_a_word(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second operator goes on with the launch by the timetable: the site would be closed hours too early."""
    assert gates.clock_reasons(gates.clock_ahead(database)) == []

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) + timedelta(hours=3)

    with monkeypatch.context() as patched:
        patched.setattr(gates, "datetime", Wrong)
        ((verdict, why),) = gates.clock_reasons(gates.clock_ahead(database))
    assert verdict == "inconclusive" and "clock is 3 h ahead of the server's" in why
    ((_, why),) = gates.clock_reasons(-7200)
    assert "2 h behind the server's" in why
