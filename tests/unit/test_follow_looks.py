"""A follower looks each second whether it is over: what that costs does not grow with the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN_FILE, launched

from safepoint.cli import follow
from safepoint.config import load
from safepoint.launch import begin


def test_the_ledger_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    plan = load(tmp_path / "launch.toml")
    story = launched(begin.launch_folder(plan) / "ledger.jsonl")
    read, looks = begin.read, list[Path]()
    monkeypatch.setattr(begin, "read", lambda path: looks.append(path) or read(path))
    monkeypatch.setattr(follow, "_LOOK_SECONDS", -1.0)
    leave = follow._Leave(plan, once=False, json_=False)
    assert [leave() for _ in range(5)] == [False] * 5 and len(looks) == 1
    story.ledger.append("note", "note:1", {"text": "somebody looked"})
    assert [leave() for _ in range(5)] == [False] * 5 and len(looks) == 2
    story.ledger.append("retiring", "retiring:1", {})
    assert leave() and leave() and len(looks) == 3
    leave.close()
