"""The gate before the window, on a machine whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from least_plan import SOMEDAY

from safepoint.config import load
from safepoint.errors import Refused
from safepoint.launch import clocks
from safepoint.launch.begin import entries_of, launch_folder
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.retire import due_at, retire
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
        patched.setattr(clocks, "datetime", Wrong)
        ((verdict, why),) = gates.clock_reasons(gates.clock_ahead(database))
    assert verdict == "inconclusive" and "clock is 3 h ahead of the server's" in why
    ((_, why),) = gates.clock_reasons(-7200)
    assert "2 h behind the server's" in why


def test_a_machine_whose_clock_is_days_ahead_does_not_give_the_way_back_up(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer that runs `safepoint retire` each hour would have dropped twin and capture before their T+3."""
    monkeypatch.setenv("SHOP_PASSWORD", database.password or "")
    text = SOMEDAY.format(port=database.port).replace('name = "shop"\nhost', f'name = "{database.dbname}"\nhost')
    (tmp_path / "launch.toml").write_text(text)
    plan = load(tmp_path / "launch.toml")
    with Ledger(launch_folder(plan) / "ledger.jsonl") as ledger:
        ledger.append("launch", "launch", {"plan": make_plan(plan).as_json()})
        ledger.append("run", "run:1", {"run": 1})
        ledger.append("end", "end:1", {"run": 1, "status": "launched", "reason": ""})
    due = due_at(entries_of(plan), plan)

    class Ahead(datetime):
        """By two days."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) + timedelta(days=2)

    monkeypatch.setattr(clocks, "datetime", Ahead)
    with pytest.raises(Refused, match="The way back is kept until") as refused:
        retire(plan, now=due + timedelta(hours=1))
    assert "by the server's clock; this machine's is 2 d ahead of it: set it" in str(refused.value.found)
    assert not any(entry.kind == "retiring" for entry in entries_of(plan))
