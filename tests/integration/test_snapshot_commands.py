"""The commands around snapshots, as a person or a script runs them: answers, exit codes, what stays and what goes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from awkward import run
from commanded import answer, copied, only_id, safepoint

from safepoint.backup.partial import abandoned, filling
from safepoint.backup.shelf import in_use
from safepoint.backup.snapshot import take_snapshot
from safepoint.config import PlanFile, load
from safepoint.errors import ExitCode, Interrupted, ProofFailed, SafepointError, StoreError
from safepoint.hosts.here import Here
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target, target


@pytest.fixture
def plan(backed_up: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    return copied(backed_up, tmp_path)


def test_a_backup_is_stored_where_it_can_be_and_fails_where_it_cannot(backed_up: tuple[Path, Target]) -> None:
    told = json.loads((backed_up[0] / "backup.json").read_text())
    assert {one["store"]: one["holds"] for one in told["stores"]} == {"offsite": True, "broken": False}
    assert "not-a-folder" in told["stores"][1]["error"]["subject"]
    assert told["proof"]["rows"] == 99
    assert (backed_up[0] / "backup.code").read_text() == str(int(ExitCode.FAILED))
    assert (backed_up[0] / "offsite" / told["id"] / "manifest.json").exists()


def test_backups_lists_what_there_is_also_where_a_store_does_not_answer(backed_up: tuple[Path, Target]) -> None:
    plan = load(backed_up[0] / "launch.toml")
    (one,) = answer(safepoint(plan, "backups", "--json"))
    assert (one["proven"], one["where"]) == (True, ["here", "offsite"])
    shown = safepoint(plan, "backups")
    assert one["id"] in shown.stdout  # never cut: it is copied into the next command


def test_verify_explain_names_table_column_and_key(plan: PlanFile, backed_up: tuple[Path, Target]) -> None:
    run(backed_up[1], "update t set x = 'other' where id = 42")
    try:
        told = answer(safepoint(plan, "verify", only_id(plan), "--explain", "--json"))
        shown = safepoint(plan, "verify", only_id(plan), "--explain")
    finally:
        run(backed_up[1], "update t set x = 42 where id = 42")
    (table,) = told["comparison"]["tables"]
    assert (table["table"], table["columns"], table["examples"][0]["key"]) == ("public.t", {"x": 1}, "(42)")
    assert "changed id = 42: x" in shown.stdout
    assert "restore: " in shown.stderr  # progress as lines, apart from the answer


@pytest.mark.parametrize(
    "words", [(), ("--into", "x", "--over"), ("--over", "--only", "t"), ("--into", "x" * 64)], ids=str
)
def test_a_restore_that_is_not_clear_is_refused(plan: PlanFile, words: tuple[str, ...]) -> None:
    result = safepoint(plan, "restore", only_id(plan), *words)
    assert isinstance(result.exception, SafepointError)
    assert result.exception.exit_code in (ExitCode.USAGE, ExitCode.NO_GO)
    assert result.exception.remedy


@pytest.mark.parametrize("name", ["nothing-20260101", "", ".", "../snapshots"])
def test_a_snapshot_that_is_nowhere_is_told(plan: PlanFile, name: str) -> None:
    result = safepoint(plan, "restore", name, "--into", "x")
    assert isinstance(result.exception, StoreError) and "backups" in (result.exception.remedy or "")


def test_1000_random_changes_of_one_byte_are_each_found_before_a_database_is_touched(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any file of a snapshot; the server is not even asked, which a connection to nowhere shows."""
    chance = random.Random(20260301)
    folder = plan.state / "snapshots" / only_id(plan)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    places = [(path, offset) for path in files for offset in range(path.stat().st_size)]
    asked: list[object] = []
    monkeypatch.setattr("safepoint.backup.placement.connect", lambda *words, **more: asked.append(words))
    for path, offset in chance.sample(places, 1000):
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[offset] = chance.choice([byte for byte in range(256) if byte != whole[offset]])
        path.write_bytes(changed)
        with pytest.raises(ProofFailed):
            restore_into(plan, folder, "commanded_copy")
        path.write_bytes(whole)
    assert asked == []
    assert {path.name for path, _offset in places} >= {"manifest.json", "proof.json", "toc.dat", "globals.sql"}


DUMPING = "select from pg_stat_activity where application_name like 'safepoint dump %'"


def struck(plan: PlanFile, looker: Connection, how: signal.Signals) -> int:
    """The exit code of `safepoint backup` that gets a signal while its dump waits for a lock."""
    program = Path(sys.executable).with_name("safepoint")
    process = subprocess.Popen(
        [program, "backup", "--plan", str(plan.path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not looker.execute(f"{DUMPING} and wait_event_type = 'Lock'".encode()).fetchall():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    return process.wait(60)


def test_a_backup_that_is_ended_by_a_signal_leaves_nothing_for_good(plan: PlanFile) -> None:
    """SIGKILL leaves a folder and a running dump: the next backup, under another id, ends and removes them."""
    live, snapshots = target(plan.database), plan.state / "snapshots"
    before = sorted(snapshots.iterdir())
    with connect(live, autocommit=False) as holder, connect(live) as looker:
        holder.execute("lock table t in access exclusive mode")
        assert struck(plan, looker, signal.SIGTERM) == ExitCode.INTERRUPTED
        assert sorted(snapshots.iterdir()) == before and not looker.execute(DUMPING).fetchall()
        assert struck(plan, looker, signal.SIGHUP) == ExitCode.INTERRUPTED  # the terminal was closed, or its link broke
        assert sorted(snapshots.iterdir()) == before and not looker.execute(DUMPING).fetchall()
        assert struck(plan, looker, signal.SIGKILL) == -signal.SIGKILL
        (left,) = set(snapshots.iterdir()) - set(before)
        assert looker.execute(DUMPING).fetchall()
        os.utime(left, (0, 0))
        with pytest.raises(Interrupted):
            take_snapshot(
                live,
                Here("here", plan.folder),
                installation=installation(17),
                folder=snapshots,
                snapshot_id="another",
                launch_id=None,
                cancelled=lambda: not left.exists(),
            )
    assert sorted(snapshots.iterdir()) == before


def test_a_backup_that_is_ended_in_its_proof_says_that_what_stays_is_not_proven(plan: PlanFile) -> None:
    """It lay there without a word; and nobody proved it, for nobody knew of it."""
    program = Path(sys.executable).with_name("safepoint")
    process = subprocess.Popen(
        [program, "backup", "--plan", str(plan.path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not list((plan.state / "scratch").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == ExitCode.INTERRUPTED, said
    (left,) = (one["id"] for one in answer(safepoint(plan, "backups", "--json")) if not one["proven"])
    assert f"{left} was taken, and stays here; it is NOT proven, and in no store" in said
    assert f"`safepoint verify {left}" in said
    told = f"{left} of {left[-16:-12]}-{left[-12:-10]}-{left[-10:-8]}"
    assert told in safepoint(plan, "backups").stdout
    with in_use(plan.state / "snapshots" / left):  # somebody proves it now
        assert told not in safepoint(plan, "backups").stdout
    assert told in safepoint(plan, "backup").stdout
    assert answer(safepoint(plan, "verify", left, "--json"))["snapshot_id"] == left
    assert told not in safepoint(plan, "backups").stdout


def test_what_is_being_filled_is_not_swept(tmp_path: Path) -> None:
    with filling(tmp_path / "a.partial") as mine, filling(tmp_path / "b.partial") as other:
        for path in (mine, other):
            os.utime(path, (0, 0))
        assert list(abandoned(tmp_path)) == []
    (tmp_path / "c.partial").mkdir()  # made this moment, and not locked yet
    assert list(abandoned(tmp_path)) == [tmp_path / "a.partial", tmp_path / "b.partial"]
