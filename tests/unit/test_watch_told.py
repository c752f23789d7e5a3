"""What `safepoint watch` tells: who is let in, and that its own disk takes nothing."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from stories import PLAN_FILE, launched

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.checkpoints.pages import status_remedy
from safepoint.cli.watch import _lines
from safepoint.config import load
from safepoint.launch import watching
from safepoint.launch.begin import launch_folder
from safepoint.launch.watching import Seen, Watching


def test_it_goes_on_and_says_so_in_each_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = f'[application]\nerror_log = "{tmp_path}/error.log"'
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=more))
    plan, log = load(tmp_path / "launch.toml"), tmp_path / "error.log"
    launched(launch_folder(plan) / "ledger.jsonl")
    log.write_text("")

    def full(path: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(watching, "write_private", full)
    monkeypatch.setattr(watching, "connect", lambda _target: (_ for _ in ()).throw(OSError("away")))
    monkeypatch.setattr(watching, "health", lambda *_a, **_k: Checkpoint("upstream", "Upstream", "pass"))
    watch = Watching(plan)
    first = state_of(watch.now())
    assert first.verdict == "fail" and "No space left on device" in first.detail
    assert "launch.state" not in str(first.remedy).replace("name that in launch.state", "")
    log.write_text("ERROR since\n")
    seen = watch.now()
    assert [point.verdict for point in seen.checkpoints if point.value == 1] == ["fail"]  # it has not forgotten
    assert state_of(seen).verdict == "fail"


def state_of(seen: Any) -> Checkpoint:
    (found,) = [point for point in seen.checkpoints if point.name == "state"]
    return found


def test_who_is_let_in_is_a_share_while_the_canary_runs() -> None:
    now, zone = datetime(2026, 3, 1, 9, 0, tzinfo=UTC), ZoneInfo("UTC")
    passed = (Checkpoint("router", "Router", "pass"),)
    assert "people are on 2.0:" in _lines(Seen("2.0", passed), now, zone)[0]
    assert "10 % of clients are on 2.0:" in _lines(Seen("2.0", passed, 10), now, zone)[0]


def test_a_release_that_says_it_cannot_serve_is_not_told_as_a_closed_site() -> None:
    """It is asked at its own address: where its database is away, many answer 503."""
    assert status_remedy(503).startswith("Read the application's error log")
