"""Several plan files share a state folder: neither takes what is the other's for its own, and neither waits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stories import PLAN, PLAN_FILE, Story
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.errors import Refused
from safepoint.launch.begin import entries_of
from safepoint.launch.estimates import launched
from safepoint.launch.ledger import Ledger
from safepoint.launch.lock import ConductorLock, held, holder, refuse_other
from safepoint.launch.runs import begin_run, note_resumed
from safepoint.launch.snapshots.restoring import refuse_launch
from safepoint.launch.snapshots.snapshots import standing_launches
from safepoint.launch.versions import FORMAT
from safepoint.launch.whose import origin


def plan_of(folder: Path, name: str, application: str = "accounting", database: str = "accounting") -> PlanFile:
    text = PLAN_FILE.format(date="2026-03-01", zone="UTC", more="")
    text = text.replace('application = "accounting"', f'application = "{application}"')
    (folder / name).write_text(text.replace('name = "accounting"', f'name = "{database}"'))
    return load(folder / name)


def begun(plan: PlanFile) -> None:
    path = plan.state / "launches" / plan.launch_id / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("launch", "launch", {"plan": PLAN, "plan_file": plan.path.name, **origin(plan)})


def test_the_same_release_for_two_databases_has_one_id_and_only_one_of_them_is_taken_for_the_launch(
    tmp_path: Path,
) -> None:
    one, two = plan_of(tmp_path, "one.toml"), plan_of(tmp_path, "two.toml", database="tenant")
    assert one.launch_id == two.launch_id
    begun(one)
    with pytest.raises(Refused) as refused:
        entries_of(two)
    assert refused.value.expected == f"{tmp_path}/one.toml (accounting/accounting)"
    assert "launch.id" in str(refused.value.remedy)
    for word in ("status", "rollback", "launch", "go", "report"):
        said = CliRunner().invoke(app, [word, "--plan", str(tmp_path / "two.toml"), "--json"])
        assert isinstance(said.exception, Refused), (word, said.output, said.exception)
    # Its own file may be corrected (the server has another address now), or be moved with all that it says.
    (tmp_path / "one.toml").write_text(
        (tmp_path / "one.toml").read_text().replace("[database]", '[database]\nhost = "b"')
    )
    assert entries_of(load(tmp_path / "one.toml"))
    (tmp_path / "one.toml").rename(tmp_path / "moved.toml")
    assert entries_of(load(tmp_path / "moved.toml"))


def test_a_conductor_of_another_application_is_in_nobodys_way(tmp_path: Path) -> None:
    mine, other = plan_of(tmp_path, "one.toml"), plan_of(tmp_path, "shop.toml", "shop", "shop")
    assert mine.state == other.state
    with ConductorLock(other.conductor_lock, other.launch_id, "safepoint launch"):
        assert holder(mine.conductor_lock) is None and not held(mine.conductor_lock)
        refuse_other(mine.conductor_lock, mine.launch_id)
        with ConductorLock(mine.conductor_lock, mine.launch_id, "safepoint rollback"):
            assert held(mine.conductor_lock, mine.launch_id) and held(other.conductor_lock, other.launch_id)
            with pytest.raises(Refused, match="Another launch of this application is conducted"):
                refuse_other(mine.conductor_lock, "accounting-2.1")
            answer = CliRunner().invoke(app, ["status", "--plan", str(tmp_path / "one.toml"), "--json"])
            assert json.loads(answer.output)["conductor"]["command"] == "safepoint rollback"


def test_a_launch_of_a_newer_version_is_no_broken_ledger_and_another_version_is_noted(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "one.toml")
    path = plan.state / "launches" / plan.launch_id / "ledger.jsonl"
    facts = {"plan": PLAN, "plan_file": "one.toml", "safepoint": "9.1.0"}
    with Ledger(path) as ledger:
        ledger.append("launch", "launch", {**facts, "format": FORMAT})
        begin_run(ledger, "launch", None)
        note_resumed(ledger, 1, None)
        assert ledger.entries[1].data["note"] == "by Safepoint 0.1.0; 9.1.0 began the launch"
        assert ledger.entries[2].data["after"] == "an interruption, by Safepoint 0.1.0; 9.1.0 began the launch"
    assert entries_of(plan)
    path.unlink()
    with Ledger(path) as ledger:
        ledger.append("launch", "launch", {**facts, "format": FORMAT + 1})
    with pytest.raises(Refused, match="Another version of Safepoint began") as refused:
        entries_of(plan)
    assert "9.1.0, as its ledger says" in str(refused.value.remedy)


def test_a_launch_of_another_application_keeps_no_restore_from_the_live_ones_place(tmp_path: Path) -> None:
    mine, other = plan_of(tmp_path, "one.toml"), plan_of(tmp_path, "shop.toml", "shop", "shop")
    begun(mine)
    refuse_launch(other)
    assert standing_launches(mine.state) == {mine.launch_id: "under way"}  # `prune` keeps what any of them needs
    with pytest.raises(Refused, match="under way"):
        refuse_launch(mine)


def test_how_long_another_application_took_says_nothing_of_this_one(tmp_path: Path) -> None:
    mine, other = plan_of(tmp_path, "one.toml"), plan_of(tmp_path, "shop.toml", "shop", "shop")
    path = mine.state / "launches" / mine.launch_id / "ledger.jsonl"
    story = Story(path)
    story.begin().done("migrate", 42.0)
    assert launched(mine)["migrate"] == 42.0 and "migrate" not in launched(other)
