"""What `rollback` says at its end, to a person and to a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from least_plan import LEAST
from stories import launched, rolled_back

from safepoint.cli import orders
from safepoint.config import load


def taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch, *, ended: str, json_: bool) -> int:
    """The order, given to a launch that stands by; it ends so. Gives the exit code."""
    (folder / "launch.toml").write_text(LEAST.replace('application = "shop"', 'application = "accounting"'))
    ledger = folder / ".safepoint/launches/accounting-2.0-20260301/ledger.jsonl"
    ledger.parent.mkdir(parents=True)
    launched(ledger)

    def conduct(*_what: Any, **_how: Any) -> str:
        if ended == "rolled back":
            ledger.unlink()
            rolled_back(ledger)
        return ended

    monkeypatch.setattr(orders, "conduct", conduct)
    with pytest.raises(typer.Exit) as exit_:
        orders._take_back(load(folder / "launch.toml"), "rollback", plain=True, json_=json_)
    return exit_.value.exit_code


def test_one_that_was_turned_round_says_where_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taken_back(tmp_path, monkeypatch, ended="launched", json_=False) == 1
    said = capsys.readouterr()
    assert "safepoint: accounting 2.0 is launched." in said.err and "next:" in said.err


def test_a_program_gets_the_reason_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taken_back(tmp_path, monkeypatch, ended="rolled back", json_=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "rolled back" and answer["reason"] == "rollback ordered by grace@laptop"
