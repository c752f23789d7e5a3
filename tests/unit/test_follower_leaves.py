"""`safepoint follow` ends where there is nothing more to follow, whatever it slept through."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from stories import PLAN_FILE, Story

from safepoint.cli.follow import _Leave
from safepoint.config.load import parse
from safepoint.launch import lock
from safepoint.launch.begin import launch_folder


@pytest.mark.parametrize("status", ["launched", "rolled back", "failed", None])
def test_a_follower_that_slept_through_a_rollback_does_not_wait_for_the_twin(tmp_path: Path, status: str) -> None:
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""), tmp_path / "launch.toml")
    story = Story(launch_folder(plan) / "ledger.jsonl").begin().end("launched")
    assert not _Leave(plan, once=False, json_=False)()
    story.begin()
    if status is not None:
        story.end(status)
    assert _Leave(plan, once=False, json_=False)() == (status != "launched")


def test_a_ledger_that_is_away_is_no_launch_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""), tmp_path / "launch.toml")
    Story(launch_folder(plan) / "ledger.jsonl").begin().end("launched")
    leave = _Leave(plan, once=False, json_=False)
    assert not leave.look()
    plan.state.rename(tmp_path / "away")  # its disk is not mounted any more
    assert not leave.look()
    monkeypatch.setattr(lock, "held", _refused)  # it answers nothing at all
    assert not leave.look()
    leave.hindered(OSError(errno.EIO, os.strerror(errno.EIO), "/state/spool"))
    leave.close()
    said = capsys.readouterr().out
    assert said == "/state/spool: Input/output error. It is tried again; the server keeps what was not spooled.\n"


def _refused(*_words: object) -> bool:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
