"""This machine's clock is set, by hours, in the middle of a launch: what goes by it, and what is said of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stories import PLAN_FILE, WAY_BACK, ground_at, launched, migrated, prepared
from test_gates_rehearsal import COMMAND, NOW, pending, rehearsal
from typer.testing import CliRunner

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.errors import NeedsPerson
from safepoint.launch.begin import launch_folder
from safepoint.launch.rehearsal.rehearsals import FORMAT, rehearsals_of
from safepoint.launch.report import build
from safepoint.launch.verbs import gates, opening
from safepoint.launch.verbs.gates import rehearsal_reasons, snapshot_reasons
from safepoint.launch.whose import own_mark
from safepoint.wayback.stash import stash

HOUR = 3600.0


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more=""))
    return load(tmp_path / "launch.toml")


def test_no_span_is_negative_where_it_was_set_back_in_the_window_and_on_the_way_back(plan: PlanFile) -> None:
    ledger = launch_folder(plan) / "ledger.jsonl"
    story = migrated(ledger).wait(-HOUR)
    story.done("checkpoints", 1.1).done("gate-canary", 0.1).done("canary", 5.0).done("green", 0.1).end("launched")
    story.begin("rollback").way_back("rollback ordered by grace@laptop")
    for step, _, _, seconds, summary in WAY_BACK:
        story.done(step, seconds, summary)
        if step == "back-fence":
            story.wait(-HOUR)
    built = build(story.end("rolled back").entries)
    assert (built["window"]["seconds"], built["rollback"]["downtime_seconds"]) == (None, None)
    for words in (("status",), ("status", "--json"), ("report", "--json"), ("report", "--html", str(ledger) + ".html")):
        done = CliRunner().invoke(app, [*words, "--plan", str(plan.path)])
        assert done.exit_code == 0, done.exception
        assert not re.search(r"(?<![\w-])-\d+(\.\d+)? (s|min|h|d)\b", done.output), done.output
    page = Path(str(ledger) + ".html").read_text()
    assert not re.search(r'(width|height)="-', page) and not re.search(r">[^<]*(?<!\w)-\d+(\.\d+)? (s|min|h)\b", page)


@pytest.mark.parametrize("back", [HOUR, 25 * HOUR])
def test_the_running_step_has_not_begun_in_the_future(plan: PlanFile, back: float) -> None:
    migrated(launch_folder(plan) / "ledger.jsonl").wait(10 * 365 * 24 * HOUR + back).begun("checkpoints")
    done = CliRunner().invoke(app, ["status", "--plan", str(plan.path)])
    assert done.exit_code == 0 and not re.search(r"(?<![\w-])-\d+(\.\d+)? (s|min|h|d)\b", done.output)


def test_a_snapshot_from_the_future_is_told_as_a_clock_that_was_set_back() -> None:
    (_, _, (verdict, why)) = snapshot_reasons({}, {}, timedelta(minutes=-50), timedelta(hours=26))
    assert verdict == "inconclusive" and "its age is not known" in why
    assert "50 min from being taken: this machine's clock was set back since" in why
    (_, _, (verdict, why)) = snapshot_reasons({}, {}, timedelta(seconds=-20), timedelta(hours=26))
    assert verdict == "pass" and "0.00 s old" in why
    now = pending("aa")
    ((verdict, why),) = rehearsal_reasons([rehearsal(now, hours=-1)], now, NOW, timedelta(hours=36), COMMAND)
    assert verdict == "fail" and "clock was set back since" in why and f"run `{COMMAND}`" in why


def test_a_go_of_a_clock_that_was_set_back_since_is_not_called_an_hour_old(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given a second ago: "59 min ago" sends people to look for somebody who slept."""
    story = prepared(launch_folder(plan) / "ledger.jsonl").done("gate-stop", 0.1)
    given = story.now

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return given - timedelta(hours=1)

    monkeypatch.setattr(gates, "datetime", Clock)
    monkeypatch.setattr(gates, "_for_the_window", lambda _ground: [("pass", "all is well")])
    with pytest.raises(NeedsPerson) as asked:
        gates.refuse_old_go(ground_at(plan, story, "stop-traffic"))
    assert "by a clock that was set back since: nobody knows how long ago" in asked.value.message
    assert " min ago" not in asked.value.message and " h ago" not in asked.value.message


def test_a_rehearsal_by_a_clock_that_was_ahead_does_not_stand_before_those_that_replace_it(plan: PlanFile) -> None:
    """It was a no-go for ever: each new one was older."""
    for name, made_at in (("ahead", datetime.now(UTC) + timedelta(days=300)), ("new", datetime.now(UTC))):
        folder = plan.state / "rehearsals" / name
        folder.mkdir(parents=True)
        made = {"snapshot": {"source": own_mark(plan)}, "release": "2.0", "format": FORMAT}
        (folder / "rehearsal.json").write_text(json.dumps({**made, "made_at": made_at.isoformat()}))
    assert [Path(one["folder"]).name for one in rehearsals_of(plan)] == ["new", "ahead"]


def test_the_backup_of_the_launch_was_taken_before_its_site_was_closed(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set in between was asked about, with the site closed."""
    story = prepared(launch_folder(plan) / "ledger.jsonl")
    taken = story.now
    story.wait(-HOUR / 2).done("stop-traffic", 0.2)
    manifest = SimpleNamespace(taken_at=taken, total_bytes=2**30)
    monkeypatch.setattr(opening, "read_manifest", lambda _folder: manifest)
    monkeypatch.setattr(opening, "read_proof", lambda _folder: SimpleNamespace())
    ground = ground_at(plan, story, "checkpoints")
    ground.record("snapshot:final", {"id": "final"})
    assert opening._backup(ground).verdict == "pass"


def test_looking_on_ends_at_its_hour_also_where_the_clock_is_set_meanwhile(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, looks = ground_at(plan, launched(plan.state / "ledger.jsonl"), "settle"), list[float]()
    monkeypatch.setattr(ground, "pause", lambda seconds: None)

    class Clock(datetime):
        """Set ahead by two hours after the third look."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=2 * (len(looks) >= 3))

    class Look:
        def now(self, *, with_login: bool) -> list[Checkpoint]:
            looks.append(0.0)
            return [Checkpoint("errors", "Error log", "pass")]

    monkeypatch.setattr(opening, "datetime", Clock)
    end = opening._at(datetime.now(UTC) + timedelta(hours=1))
    opening._watched(ground, end, every=1.0, look=Look())  # type: ignore[arg-type]
    assert len(looks) == 3


def test_the_newest_stash_stays_the_newest(tmp_path: Path) -> None:
    """What it says of a row counts before what an earlier one says."""
    ahead = datetime.now(UTC) + timedelta(hours=1)
    folder = tmp_path / "stash" / "first"
    folder.mkdir(parents=True)
    data = {"format": 1, "launch": "first", "release": "2.0", "made_at": ahead.isoformat(), "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps({**data, "tables": {}, "identities": {}, "sequences": {}}))
    assert stash._later(stash.read_stashes(tmp_path)) > ahead
    assert stash._later([]) <= datetime.now(UTC)
