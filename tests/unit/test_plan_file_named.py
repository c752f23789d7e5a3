"""What is named as the next command reaches the same launch: with --plan, where the plan file is not the usual one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from stories import PLAN_FILE, migrated
from typer.testing import CliRunner

from safepoint.cli import app, say
from safepoint.cli.doctor import render
from safepoint.cli.tables import wrapped
from safepoint.cli.timeline_lines import event_line, marks_for
from safepoint.cli.timeline_state import State
from safepoint.config import load
from safepoint.errors import Refused
from safepoint.launch.begin import launch_folder
from safepoint.launch.doctor.finding import Finding
from safepoint.launch.ledger import read
from safepoint.launch.plan import make_plan
from safepoint.launch.typed import COMMANDS, typed

ERROR = Refused("Not now.", remedy="Put it right; then `safepoint retry`, or `safepoint restore ID --into NAME`.")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan file that is not `launch.toml`, given to this command."""
    path = tmp_path / "two words.toml"
    path.write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    monkeypatch.setattr(sys, "argv", ["safepoint", "status", "--plan", str(path)])
    return path


def test_each_command_that_takes_a_plan_file_is_known() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    taking = {name for name, one in commands.items() if any("--plan" in option.opts for option in one.params)}
    assert taking == set(COMMANDS)


def test_what_names_it_already_or_takes_none_stays() -> None:
    for text in ("`safepoint go --plan a.toml`", "`safepoint settings KEY`", "safepoint go", "`safepoint planned`"):
        assert typed(text, "b.toml") == text
    assert typed("`safepoint go`", "launch.toml") == "`safepoint go`"
    assert typed("`safepoint plan --way-back`.", "b.toml") == "`safepoint plan --way-back --plan b.toml`."


def test_an_error_is_said_with_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(ERROR)
    said = capsys.readouterr().err
    assert f"`safepoint retry --plan '{path}'`" in said and f"--into NAME --plan '{path}'`" in said


def test_so_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / 'a "quoted" name.toml'
    monkeypatch.setattr(sys, "argv", ["safepoint", "status", "--json", f"--plan={path}"])
    say(ERROR)
    assert f"`safepoint retry --plan '{path}'`" in json.loads(capsys.readouterr().out)["remedy"]


def test_findings_and_wrapped_lines_name_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render((Finding("way back", "warning", "It is not proven.", "See `safepoint plan --way-back`."),), False)
    assert "--way-back --plan" in " ".join(capsys.readouterr().out.split())
    assert f"--plan '{path}'" in " ".join(wrapped("Give `safepoint go`.", 200))


def test_a_ledger_s_question_and_remedy_name_it_wherever_they_are_shown(path: Path) -> None:
    plan = load(path)
    ledger = launch_folder(plan) / "ledger.jsonl"
    story = migrated(ledger).begun("checkpoints")
    story.ask("checkpoints", "It did not end well. Correct it; then `safepoint retry`.", "retry", "abort")
    told = json.loads(CliRunner().invoke(app, ["status", "--json", "--plan", str(path)]).output)
    assert f"`safepoint retry --plan '{path}'`" in told["standing"]["next"]
    assert "`safepoint retry`" not in told["standing"]["next"]
    state = State(make_plan(plan), plan_file=str(path))
    question = list(read(ledger))[-1]
    state.take(question, 0.0)
    assert "--plan" in str((state.question or {})["question"])
    assert "--plan" in (event_line(question, state, marks_for("utf-8")) or ("", ""))[1]
