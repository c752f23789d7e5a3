"""A plan file that cannot be used: nobody takes a launch's way back away with an editor, and nothing new begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stories import PLAN_FILE, Story, launched, migrated
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.errors import PlanFileError
from safepoint.launch.begin import launch_folder, move
from safepoint.launch.edited import Edits
from safepoint.launch.last_read import READ, keep_read, load_standing
from safepoint.launch.ledger import Ledger

TEXT = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")


def begun(folder: Path, write: Callable[[Path], Story], text: str = TEXT) -> PlanFile:
    """A launch, and what its conductor read."""
    (folder / "launch.toml").write_text(text)
    plan = load(folder / "launch.toml")
    write(launch_folder(plan) / "ledger.jsonl")
    keep_read(plan, launch_folder(plan))
    return plan


@pytest.fixture
def waits(tmp_path: Path) -> PlanFile:
    """A launch that waits for a person, with the site closed."""
    return begun(
        tmp_path, lambda path: migrated(path).ask("checkpoints", "too many errors are logged", "retry", "abort")
    )


def spoil(plan: PlanFile, how: str) -> str:
    """Saved half-way; gives what has to be said of it."""
    ways = {
        "no TOML": (TEXT.replace('user = "postgres"', "user = "), "line 9"),
        "refused": (TEXT.replace('kind = "caddy"', 'kind = "cady"'), "router"),
        "emptied": ("", "launch"),
    }
    if how == "gone":
        plan.path.unlink()
        return "There is no plan file"
    text, said = ways[how]
    plan.path.write_text(text)
    return said


def run(plan: PlanFile, *words: str) -> tuple[int, str, str]:
    """The exit code, what was answered, and what was said beside it."""
    done = CliRunner().invoke(app, [*words, "--plan", str(plan.path)])
    if isinstance(done.exception, PlanFileError):
        return int(done.exception.exit_code), "", f"{done.exception.message} {done.exception.remedy}"
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("how", ["no TOML", "refused", "emptied", "gone"])
def test_commands_of_a_launch_go_by_what_its_conductor_read_and_say_so(
    waits: PlanFile, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, given = spoil(waits, how), list[str]()
    monkeypatch.setattr("safepoint.launch.engine.send", lambda _folder, _run, order: given.append(order["order"]))
    for words in (("status", "--json"), ("report", "--json"), ("retry", "--json"), ("hold", "--json")):
        code, answer, said = run(waits, *words)
        assert code == 0, said
        assert fault in said and "launch.toml CANNOT BE USED as it is now" in said
        assert "accounting-2.0-20260301 goes by what its conductor read at 20" in said and READ in said
        assert fault in str(json.loads(answer).get("edited", fault))
    assert given == ["retry", "hold"]


@pytest.mark.parametrize("how", ["no TOML", "refused", "emptied", "gone"])
def test_nothing_new_is_begun_by_it(waits: PlanFile, how: str) -> None:
    fault = spoil(waits, how)
    for word in ("backup", "doctor", "plan", "backups", "prune"):
        code, _, said = run(waits, word)
        assert code == 2 and fault in said and READ not in said
    code, _, said = run(waits, "launch")
    assert code == 2 and fault in said
    kept = launch_folder(waits) / READ
    assert f"`cp {kept} {waits.path}`, then `safepoint launch`" in said and "`safepoint rollback`" in said


def test_the_line_of_what_is_no_toml_is_told_with_its_key(waits: PlanFile) -> None:
    spoil(waits, "no TOML")
    with pytest.raises(PlanFileError, match=r"line 9, column \d+\), database\.user\."):
        load(waits.path)


def test_it_is_found_in_a_state_folder_of_another_name_as_long_as_the_file_says_which(tmp_path: Path) -> None:
    text = TEXT.replace("[launch]", '[launch]\nstate = "elsewhere/state"')
    plan = begun(tmp_path, launched, text)
    plan.path.write_text(text.replace("[database]", "[database"))
    found = load_standing(plan.path)
    assert found.fault and found.state == tmp_path / "elsewhere/state" and found.launch_id == plan.launch_id


def test_of_a_launch_with_nothing_to_take_back_the_file_is_simply_wrong(tmp_path: Path) -> None:
    plan = begun(tmp_path, launched)
    with Ledger(launch_folder(plan) / "ledger.jsonl") as ledger:
        ledger.append("retired", "retired", {"done": []})
    spoil(plan, "no TOML")
    code, _, said = run(plan, "status")
    assert code == 2 and READ not in said


def test_a_newer_launch_that_failed_is_not_passed_over_for_an_older_one(tmp_path: Path) -> None:
    """A rollback would take back another launch than the one that was meant."""
    begun(tmp_path, launched)
    newer = TEXT.replace('version = "2.0"', 'version = "2.1"')
    plan = begun(tmp_path, lambda path: Story(path).wait(9e5).begin().end("failed", "no room"), newer)
    assert plan.launch_id == "accounting-2.1-20260301"
    spoil(plan, "no TOML")
    with pytest.raises(PlanFileError):
        load_standing(plan.path)


def test_what_at_moved_is_kept_as_it_stands_in_the_file(waits: PlanFile) -> None:
    moved = move(waits, "2026-03-02 11:00")
    assert moved.text == TEXT
    keep_read(moved, launch_folder(waits))
    assert (launch_folder(waits) / READ).read_text() == TEXT


def test_the_screen_of_the_conductor_says_by_what_orders_go(waits: PlanFile) -> None:
    edits = Edits(waits, launch_folder(waits))
    spoil(waits, "no TOML")
    said = edits.news()
    assert "cannot be used as it is now" in said and READ in said
    waits.path.write_text(TEXT)
    assert edits.news() == "launch.toml is again as the conductor read it."
