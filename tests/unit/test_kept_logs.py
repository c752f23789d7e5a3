"""What the error logs got since the site was closed is copied, whatever rotation does, and each part once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from stories import PLAN_FILE, Story

from safepoint.checkpoints import logs
from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.hosts.here import Here
from safepoint.launch import kept_logs
from safepoint.launch.kept_logs import keep_logs


def plan_in(folder: Path, log: Path) -> PlanFile:
    text = PLAN_FILE.format(date="2026-03-01", zone="UTC", more="")
    return parse(f'{text}\n[application]\nerror_log = "{log}"\n', folder / "launch.toml")


def marked(folder: Path, log: Path) -> Story:
    story = Story(folder / "ledger.jsonl").begin()
    mark = logs.mark(Here("here", folder), str(log))
    story.ledger.append("fact", "1:stop-traffic:log-mark", mark.as_json(), step="stop-traffic")
    return story


def test_what_came_since_is_copied_through_a_rotation_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    log, kept = tmp_path / "error.log", tmp_path / "logs" / "application.log"
    log.write_text("before the launch\n")
    plan, entries = plan_in(tmp_path, log), marked(tmp_path, log).entries
    with log.open("a") as file:
        file.write("in the window\n")
    (told,) = keep_logs(plan, tmp_path, entries)
    assert kept.read_text() == "in the window\n" and told == f"14 bytes of {log}"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    with log.open("a") as file:
        file.write("an unfinished")
    log.rename(tmp_path / "error.log.1")
    log.write_text("after the rotation\n")
    keep_logs(plan, tmp_path, entries)
    keep_logs(plan, tmp_path, entries)
    assert kept.read_text() == "in the window\nan unfinishedafter the rotation\n"


def test_a_kill_before_the_mark_was_kept_doubles_nothing(tmp_path: Path) -> None:
    log, kept = tmp_path / "error.log", tmp_path / "logs" / "application.log"
    plan, entries = plan_in(tmp_path, log), marked(tmp_path, log).entries
    log.write_text("one\n")
    keep_logs(plan, tmp_path, entries)
    with kept.open("a") as file:
        file.write("tw")  # a copy that was cut off
    with log.open("a") as file:
        file.write("two\n")
    keep_logs(plan, tmp_path, entries)
    assert kept.read_text() == "one\ntwo\n"


def test_a_log_that_is_lost_or_too_much_is_told_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, kept = tmp_path / "error.log", tmp_path / "logs" / "application.log"
    log.write_text("x\n")
    plan, entries = plan_in(tmp_path, log), marked(tmp_path, log).entries
    log.unlink()
    (told,) = keep_logs(plan, tmp_path, entries)
    assert "lines may be missing" in told
    log.write_bytes(b"y" * (3 * 1024 * 1024))
    monkeypatch.setattr(kept_logs, "_MOST", 2 * 1024 * 1024)
    keep_logs(plan, tmp_path, entries)
    assert kept.stat().st_size == 2 * 1024 * 1024  # the rest the next time
    keep_logs(plan, tmp_path, entries)
    assert kept.stat().st_size == 3 * 1024 * 1024
    kept.unlink()
    kept.mkdir()
    (told,) = keep_logs(plan, tmp_path, entries)
    assert "could not be kept" in told


def test_without_a_mark_or_a_log_there_is_nothing_to_keep(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, tmp_path / "error.log")
    assert keep_logs(plan, tmp_path, Story(tmp_path / "ledger.jsonl").begin().entries) == []
