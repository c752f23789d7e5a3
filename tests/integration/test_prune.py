"""Pruning: what is old goes, by the rules; what is proven, needed, in use or somebody else's stays."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from awkward import run
from commanded import aged, answer, copied, only_id, safepoint
from plan_file import LOCAL, plan_file

from safepoint.backup.proof import read_proof
from safepoint.backup.shelf import in_use
from safepoint.config import PlanFile
from safepoint.errors import ExitCode, Refused
from safepoint.launch.ledger import Ledger
from safepoint.launch.rehearsal.rehearsing import newest_proven
from safepoint.launch.snapshots.pruning import Pruning, carry_out, plan_pruning
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.launch.snapshots.snapshots import at_hand
from safepoint.postgres.target import Target
from safepoint.progress import Progress


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


def test_prune_shows_then_removes_what_is_old_and_leaves_what_is_needed(plan: PlanFile) -> None:
    old = aged(plan, "old", 50)
    needed = aged(plan, "needed", 60, launch="shop-1.9-20260101")
    unproven = aged(plan, "unproven", 45, away=False)
    (plan.state / "snapshots" / unproven / "proof.json").unlink()
    with Ledger(plan.state / "launches" / "shop-1.9-20260101" / "ledger.jsonl") as ledger:
        ledger.append("run", "run:1", {"run": 1})
        ledger.append("end", "end:1", {"run": 1, "status": "launched", "reason": ""})
    before = {path.name for path in (plan.state / "snapshots").iterdir()}
    told = answer(safepoint(plan, "prune", "--dry-run", "--json"))
    verdicts = {(one["place"], one["snapshot"]): one["verdict"] for one in told["decisions"]}
    assert verdicts[("here", old)] == verdicts[("offsite", old)] == verdicts[("here", unproven)] == "drop"
    assert verdicts[("here", needed)] == verdicts[("offsite", needed)] == "keep"
    assert {path.name for path in (plan.state / "snapshots").iterdir()} == before
    assert "would go" in safepoint(plan, "prune", "--dry-run").stdout

    told = answer(safepoint(plan, "prune", "--json"))
    assert {one["snapshot"] for one in told["decisions"] if one["verdict"] == "dropped"} == {old, unproven}
    left = {path.name for path in (plan.state / "snapshots").iterdir()}
    assert left == before - {old, unproven}
    assert {path.name for path in (plan.folder / "offsite").iterdir()} == left

    with Ledger(plan.state / "launches" / "shop-1.9-20260101" / "ledger.jsonl") as ledger:
        ledger.append("retired", "retired", {"done": []})
    assert answer(safepoint(plan, "prune", "--json"))["decisions"]
    assert not (plan.state / "snapshots" / needed).exists()


def test_a_backup_of_a_machine_whose_clock_is_years_ahead_pushes_none_out(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cron job's `backup` and `prune`, in a night in which the machine's clock is wrong and the server's is right."""
    first, old, ahead = only_id(plan), aged(plan, "old", 20), datetime.now(UTC) + timedelta(days=3650)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return ahead.astimezone(tz)

    monkeypatch.setattr("safepoint.backup.snapshot.datetime", Ahead)
    result = safepoint(plan, "backup")
    assert result.exit_code == 0 and "clock and the server's were 3650 days apart" in result.stdout, result.output
    for now in (ahead, datetime.now(UTC)):  # while it is wrong, and once it is set
        pruning = plan_pruning(plan, now)
        assert {one.verdict for one in pruning.decisions} == {"keep"}, pruning
        assert {one.place for one in pruning.decisions if one.snapshot_id == old} == {"here", "offsite"}
    assert newest_proven(plan) == first


def test_keep_rules_of_a_store_are_its_own(plan: PlanFile, backed_up: tuple[Path, Target]) -> None:
    for days in (40, 70, 100):
        aged(plan, f"old-{days}", days)
    stores = LOCAL + "[stores.keep_rules]\nmonthly = 24\n"
    plan = plan_file(plan.folder, backed_up[1], stores=stores)
    found = plan_pruning(plan, datetime.now(UTC))
    verdicts = {(one.place, one.snapshot_id): one.verdict for one in found.decisions}
    for days in (40, 70, 100):
        assert verdicts[("here", f"old-{days}")] == "drop"
        assert verdicts[("offsite", f"old-{days}")] == "keep"


def test_two_plans_that_share_a_store_let_none_of_each_other_s_snapshots_go(plan: PlanFile) -> None:
    """Neither knows how long the other one keeps its own, or which of them its launches need."""
    theirs = [aged(plan, f"their-crm-{days}", days, of="crm") for days in (400, 300)]
    own = aged(plan, "old", 50)
    pruned = answer(safepoint(plan, "prune", "--json"))["decisions"]
    verdicts = {(one["place"], one["snapshot"]): one["verdict"] for one in pruned}
    assert verdicts[("offsite", own)] == verdicts[("here", own)] == "dropped"
    assert {verdicts[("offsite", name)] for name in theirs} == {"keep"}
    assert all((plan.folder / "offsite" / name).exists() for name in theirs)
    assert (verdicts[("here", "their-crm-400")], verdicts[("here", "their-crm-300")]) == ("dropped", "keep")
    for left in (plan.state / "snapshots").iterdir():
        shutil.rmtree(left)
    assert newest_proven(plan) not in (None, *theirs)
    for mine in (plan.folder / "offsite").iterdir():
        if mine.name not in theirs:
            shutil.rmtree(mine)
    assert newest_proven(plan) is None


def test_the_last_proven_one_stays_however_old_it_is(plan: PlanFile) -> None:
    aged(plan, "ancient", 900)
    shutil.rmtree(
        plan.state / "snapshots" / next(p.name for p in (plan.state / "snapshots").iterdir() if p.name != "ancient")
    )
    found = {(one.place, one.snapshot_id): one for one in plan_pruning(plan, datetime.now(UTC)).decisions}
    assert found[("here", "ancient")].verdict == "keep"
    assert "newest proven" in found[("here", "ancient")].reason


def test_what_is_being_read_is_not_removed(plan: PlanFile) -> None:
    aged(plan, "old", 50)
    now = datetime.now(UTC)
    decided = plan_pruning(plan, now)
    with in_use(plan.state / "snapshots" / "old"):
        done = carry_out(plan, decided, now)
        assert (plan.state / "snapshots" / "old" / "manifest.json").exists()
    failed = [one for one in done.decisions if one.verdict == "failed"]
    assert [(one.place, one.snapshot_id) for one in failed] == [("here", "old")]
    assert "in use" in failed[0].reason
    assert not (plan.folder / "offsite" / "old").exists()
    assert not carry_out(plan, plan_pruning(plan, now), now).failed
    with pytest.raises(Refused, match="gone"), in_use(plan.state / "snapshots" / "old"):
        pass


def test_a_prune_during_a_restore_leaves_what_is_restored_and_lets_it_go_afterwards(
    plan: PlanFile, backed_up: tuple[Path, Target]
) -> None:
    aged(plan, "old", 50)
    now, done = datetime.now(UTC), list[Pruning]()

    def prune(progress: Progress) -> None:
        if progress.what == "restore" and not done:
            done.append(carry_out(plan, plan_pruning(plan, now), now))

    try:
        with at_hand(plan, "old") as folder:
            assert restore_into(plan, folder, "commanded_copy", report=prune).rows == 99
    finally:
        run(backed_up[1].on("postgres"), "drop database if exists commanded_copy with (force)")
    verdicts = {one.place: one.verdict for one in done[0].decisions if one.snapshot_id == "old"}
    assert verdicts == {"here": "failed", "offsite": "dropped"}
    assert not carry_out(plan, plan_pruning(plan, now), now).failed
    assert not (plan.state / "snapshots" / "old").exists()


def test_failed_backups_and_a_clock_that_went_back_let_nothing_good_go(plan: PlanFile) -> None:
    """The newest one is damaged, the one before unproven: the last good one is 50 days old, and an older one waits."""
    newest, now = only_id(plan), datetime.now(UTC)
    good, older = aged(plan, "good", 50, away=False), aged(plan, "older", 70, away=False)
    (plan.state / "snapshots" / aged(plan, "unproven", 1, away=False) / "proof.json").unlink()
    manifest = plan.state / "snapshots" / newest / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    for moment in (now, now - timedelta(days=365)):
        decided = {one.snapshot_id: one for one in plan_pruning(plan, moment).decisions if one.place == "here"}
        assert {decided[name].verdict for name in (good, older)} == {"keep"}, decided
    assert not carry_out(plan, plan_pruning(plan, now), now).failed
    assert read_proof(plan.state / "snapshots" / good) is not None


def test_what_another_version_of_safepoint_wrote_stays_however_old_it_is(plan: PlanFile) -> None:
    name = aged(plan, "later", 400)
    for folder in (plan.state / "snapshots", plan.folder / "offsite"):
        path = folder / name / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    decided = {one.place: one for one in plan_pruning(plan, datetime.now(UTC)).decisions if one.snapshot_id == name}
    assert {where: one.verdict for where, one in decided.items()} == {"here": "keep", "offsite": "keep"}
    assert "another version" in decided["here"].reason


def test_a_store_that_cannot_be_listed_loses_nothing_and_is_told(
    plan: PlanFile, backed_up: tuple[Path, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safepoint.stores.retry.FIRST_WAIT", 0.01)
    old = aged(plan, "old", 50)
    away = '[[stores]]\nname = "appliance"\nurl = "sftp://backup@127.0.0.1:9/snapshots"\n'
    plan = plan_file(plan.folder, backed_up[1], stores=away + LOCAL)
    result = safepoint(plan, "prune", "--json")
    assert result.exit_code == int(ExitCode.FAILED)
    told = answer(result)
    assert list(told["unreachable"]) == ["appliance"]
    dropped = {(one["place"], one["snapshot"]) for one in told["decisions"] if one["verdict"] == "dropped"}
    assert dropped == {("here", old), ("offsite", old)}
    listed = safepoint(plan, "backups")
    assert listed.exit_code == int(ExitCode.FAILED)
    assert "appliance could not be listed" in listed.stderr and "shop-manual" in listed.stdout
