"""Why `safepoint follow` cannot follow is said as it is."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from stories import PLAN_FILE, Story, launched

from safepoint.cli.follow import _only_one, _standby
from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder
from safepoint.launch.lock import ConductorLock


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    launched(launch_folder(plan) / "ledger.jsonl")
    return plan


def test_a_second_follower_is_told_of_the_first(plan: PlanFile) -> None:
    with _only_one(plan), pytest.raises(Refused, match="followed already"):
        _only_one(plan)


def test_a_share_without_locks_is_not_told_as_another_follower(plan: PlanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(OSError, match="No locks available") as said:
        _only_one(plan)
    assert str(said.value.filename).endswith("follow.lock")


def test_a_dead_conductor_is_not_said_to_follow(plan: PlanFile) -> None:
    Story(launch_folder(plan) / "ledger.jsonl").begin()
    with pytest.raises(Refused) as said:
        _standby(plan)
    assert "Nobody conducts it" in str(said.value.remedy) and "`safepoint launch`" in str(said.value.remedy)
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"), pytest.raises(Refused) as said:
        _standby(plan)
    assert str(said.value.remedy).startswith("Its conductor sees to")
