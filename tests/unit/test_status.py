"""`safepoint status` and `safepoint report`, from what lies in the state folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from stories import PLAN_FILE, Story, migrated, prepared, rolled_back
from typer.testing import CliRunner

from safepoint.cli import app as whole
from safepoint.cli.plan import plan
from safepoint.cli.report import report
from safepoint.cli.status import standing_of, status
from safepoint.config import load
from safepoint.errors import Refused, SafepointError
from safepoint.launch.lock import ConductorLock, Holder

app = typer.Typer()
for command in (plan, report, status):
    app.command()(command)

NOW = datetime(2026, 3, 1, 7, 48, tzinfo=UTC)
ADA = Holder("ada", "ops", 4242, "2026-02-28T17:00:00+00:00", "accounting-2.0-20260301", "safepoint launch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return tmp_path


def ledger_of(folder: Path) -> Path:
    return folder / ".safepoint" / "launches" / "accounting-2.0-20260301" / "ledger.jsonl"


def look(folder: Path, conductor: Holder | None = ADA, now: datetime = NOW) -> dict[str, Any]:
    answer = standing_of(load(folder / "launch.toml"), Path("launch.toml"), conductor, now)
    assert json.loads(json.dumps(answer)) == answer
    return answer


def run(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(app, [words[0], "--plan", str(folder / "launch.toml"), *words[1:]])


def test_before_the_launch_it_says_when_it_begins_and_how(folder: Path) -> None:
    answer = look(folder, None, datetime(2026, 2, 28, 17, 10, tzinfo=UTC))  # ten minutes late is not too late
    assert answer["standing"]["headline"] == "The launch of accounting 2.0 has not begun."
    assert answer["next"]["id"] == "survey"
    assert [choice["command"] for choice in answer["standing"]["commands"]] == ["safepoint launch"]


def test_a_launch_whose_first_moment_is_over_is_not_offered_what_would_be_refused(folder: Path) -> None:
    told = look(folder, None)["standing"]
    assert [choice["command"] for choice in told["commands"]] == ["safepoint launch --now"]
    assert "that is over" in told["next"] and "launch.date" in told["next"]


def test_a_launch_under_way_says_who_conducts_what_runs_and_what_is_next(folder: Path) -> None:
    prepared(ledger_of(folder))
    answer = look(folder)
    assert answer["conductor"]["pid"] == 4242
    assert answer["running"] == []
    assert (answer["next"]["id"], answer["next"]["in_seconds"]) == ("gate-stop", 720.0)
    migrated(ledger_of(folder)).begun("checkpoints")
    answer = look(folder)
    assert [row["id"] for row in answer["running"]] == ["checkpoints"]


def test_a_launch_that_waits_for_no_moment_is_not_said_to_come_by_its_timetable(folder: Path) -> None:
    story = prepared(ledger_of(folder))
    assert "at 2026-03-01" in look(folder)["standing"]["next"]
    # A conductor that goes on with `launch --now`.
    facts = {"run": 1, "by": "ada@ops", "machine": "ops", "pid": 4242, "after": "an interruption", "hurry": True}
    story.ledger.append("resumed", "resumed:1:1", facts)
    answer = look(folder)
    assert "2026" not in answer["standing"]["next"] and answer["next"]["in_seconds"] is None


def test_a_launch_whose_conductor_died_says_so_and_how_to_go_on(folder: Path) -> None:
    migrated(ledger_of(folder)).begun("checkpoints")
    for conductor in (None, Holder(**{**ADA.__dict__, "launch": "another-launch"})):
        answer = look(folder, conductor)
        assert answer["standing"]["headline"].startswith("Nobody conducts the launch")
        assert answer["standing"]["commands"][0]["command"] == "safepoint launch"
        assert answer["conductor"] is None and answer["running"] == []


def test_a_launch_that_is_over_needs_no_conductor(folder: Path) -> None:
    rolled_back(ledger_of(folder))
    answer = look(folder, None)
    assert answer["standing"]["headline"] == "accounting was rolled back to 1.0."
    assert answer["next"] is None


def test_status_on_the_command_line_names_the_question_and_its_answers(folder: Path) -> None:
    story: Story = migrated(ledger_of(folder))
    story.ask("gate-canary", "in doubt: no login is configured", "go", "abort")
    with ConductorLock(folder / ".safepoint/conductor-accounting.lock", "accounting-2.0-20260301", "safepoint launch"):
        result = run(folder, "status")
        answer = json.loads(run(folder, "status", "--json").output)
    assert result.exit_code == 0
    assert "in doubt: no login is configured" in " ".join(result.output.split())
    assert f"safepoint go --plan {folder}/launch.toml" in result.output
    assert answer["question"]["choices"] == ["go", "abort"]
    assert answer["conductor"]["command"] == "safepoint launch"


def test_report_writes_the_page_where_it_is_told_or_beside_the_ledger(folder: Path) -> None:
    rolled_back(ledger_of(folder))
    assert run(folder, "report").exit_code == 0
    page = ledger_of(folder).with_name("report.html").read_text()
    result = run(folder, "report", "--html", str(folder / "new" / "page.html"))
    assert result.exit_code == 0 and str(folder / "new" / "page.html") in result.output
    assert (folder / "new" / "page.html").read_text() == page
    assert [path.name for path in (folder / "new").iterdir()] == ["page.html"]


def test_report_as_json_is_the_whole_report(folder: Path) -> None:
    rolled_back(ledger_of(folder))
    answer = json.loads(run(folder, "report", "--json").output)
    assert answer["rollback"]["listed"] == 31
    assert not ledger_of(folder).with_name("report.html").exists()


def test_there_is_no_report_of_a_launch_that_has_not_begun(folder: Path) -> None:
    assert isinstance(run(folder, "report").exception, Refused)


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(folder: Path) -> None:
    rolled_back(ledger_of(folder))
    (folder / "file").write_text("")
    error = run(folder, "report", "--html", str(folder / "file" / "page.html")).exception
    assert isinstance(error, SafepointError)
    assert error.remedy and error.subject == str(folder / "file" / "page.html")


@pytest.mark.parametrize("columns", ["80", "140"])
def test_plan_shows_every_step_with_its_moment_and_commands(
    folder: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    output = run(folder, "plan").output
    assert max(len(line) for line in output.splitlines()) <= int(columns)
    for expected in ("T-1 18:00", "T 09:15", "◆ Go for the window?", "python src/manage.py migrate --noinput"):
        assert expected in output


def test_plan_writes_a_page_and_a_calendar_and_answers_json(folder: Path) -> None:
    files = ("--html", str(folder / "plan.html"), "--ics", str(folder / "plan.ics"))
    assert run(folder, "plan", *files).exit_code == 0
    assert "T-1&nbsp;18:00" in (folder / "plan.html").read_text()
    assert (folder / "plan.ics").read_bytes().count(b"BEGIN:VEVENT\r\n") == 7
    answer = json.loads(run(folder, "plan", "--json").output)
    assert answer["launch_id"] == "accounting-2.0-20260301" and len(answer["digest"]) == 64


def test_what_an_aborted_try_left_says_nothing_of_the_one_that_is_under_way_or_launched(folder: Path) -> None:
    story = prepared(ledger_of(folder)).done("stop-traffic", 0.2).done("twin", 0.9, lsn="0/5A3C1F8")
    story.way_back("abort ordered by grace").done("back-open", 0.1).end("aborted", "abort ordered by grace").begin()
    story.begun("survey")
    standing = look(folder)["standing"]
    assert standing["safe"].startswith("Nothing of the live system has been touched")
    assert "2 snapshots are proven" in standing["safe"]  # they are there still
    assert "Then: Pre-launch snapshot" in standing["next"]
    assert look(folder)["done"] == 0
    for step in ("survey", "stop-traffic", "twin", "migrate", "arm", "green"):
        story.done(step, 0.1)
    story.end("launched")
    answer = look(folder, None)
    assert answer["standing"]["safe"].startswith("The safe point of"), answer["standing"]["safe"]


def test_what_is_to_be_mended_is_what_failed_in_the_newest_run(folder: Path) -> None:
    story = prepared(ledger_of(folder)).failed("gate-stop", 0.1, "fail", "no-go", remedy="Freeze the code again.")
    story.end("failed", "no-go").begin().failed("survey", 0.1, "fail", "no", remedy="Set the password.").end("failed")
    assert look(folder, None)["standing"]["next"].startswith("Set the password.")


def ordered(folder: Path, word: str) -> Any:
    return CliRunner().invoke(whole, [word, "--plan", str(folder / "launch.toml")])


def test_a_rollback_of_what_was_aborted_is_refused_and_hides_no_reason(folder: Path) -> None:
    story = migrated(ledger_of(folder))
    story.ledger.append("end", "end:1", {"run": 1, "status": "aborted", "reason": "the disk was full"})
    before = ledger_of(folder).read_bytes()
    for word in ("abort", "rollback"):
        said = ordered(folder, word)
        assert isinstance(said.exception, Refused) and "it was aborted" in said.exception.message
    assert ledger_of(folder).read_bytes() == before


def test_a_question_and_its_answers_are_two_sentences(folder: Path) -> None:
    story = migrated(ledger_of(folder))
    story.ask("gate-canary", "this gate is a person's", "go", "abort")
    said = ordered(folder, "retry")
    assert isinstance(said.exception, Refused)
    assert "a person's. Answer with `safepoint go`" in str(said.exception.remedy)


@pytest.mark.parametrize("ended", [None, "launched"])
def test_a_plan_file_that_was_changed_since_its_launch_began_is_told_which_launch_has_the_site(
    folder: Path, ended: str | None
) -> None:
    story = migrated(ledger_of(folder))
    if ended is not None:
        story.done("green", 0.1).end(ended)
    (folder / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-08", zone="Europe/Berlin", more=""))
    told = look(folder, None)["standing"]
    begun = f"accounting-2.0-20260301 {'was launched' if ended else 'is under way'}"
    assert begun in told["headline"], told
    assert "1.0" not in told["open"] and "Nothing of the live system" not in told["safe"]
    assert "launch.date" in told["next"]
    for word in ("rollback", "abort", "go", "retire", "report", "follow"):
        said = ordered(folder, word).exception
        assert isinstance(said, Refused) and begun in said.message and "launch.date" in str(said.remedy), (word, said)


def test_a_launch_that_was_retired_or_taken_back_is_no_other_launch(folder: Path) -> None:
    rolled_back(ledger_of(folder))
    (folder / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-08", zone="Europe/Berlin", more=""))
    assert look(folder, None)["standing"]["open"] == "1.0 serves everyone."
    assert str(ordered(folder, "go").exception.message).endswith("has not begun.")


def test_a_launch_that_was_killed_in_the_first_line_of_its_ledger_has_not_begun(folder: Path) -> None:
    ledger_of(folder).parent.mkdir(parents=True)
    ledger_of(folder).write_text('{"seq": 1, "at": "2026-')
    for word in ("rollback", "abort", "retire", "report"):
        said = ordered(folder, word).exception
        assert isinstance(said, Refused) and said.message.endswith("has not begun."), (word, said)


def test_a_mark_before_the_first_line_of_a_plan_file_is_no_part_of_it(folder: Path) -> None:
    path = folder / "launch.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).launch_id == "accounting-2.0-20260301"
