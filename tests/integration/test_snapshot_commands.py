"""The commands around snapshots, as a person or a script runs them: answers, exit codes, what stays and what goes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from plan_file import LOCAL, PASSWORD_ENV, plan_file
from typer.testing import CliRunner, Result

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.partial import abandoned, filling
from safepoint.backup.proof import read_proof
from safepoint.backup.shelf import in_use, store_snapshot
from safepoint.backup.snapshot import take_snapshot
from safepoint.cli import app
from safepoint.config import PlanFile, load
from safepoint.errors import ExitCode, Interrupted, ProofFailed, Refused, SafepointError, StoreError
from safepoint.hosts.here import Here
from safepoint.launch.ledger import Ledger
from safepoint.launch.pruning import Pruning, carry_out, plan_pruning
from safepoint.launch.rehearsing import newest_proven
from safepoint.launch.restoring import restore_into
from safepoint.launch.snapshots import at_hand
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target, target
from safepoint.progress import Progress
from safepoint.stores import open_store

TWO_STORES = (
    LOCAL
    + """
[[stores]]
name = "broken"
url = "file:not-a-folder/backups"
"""
)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")


def run(target: Target, *statements: str) -> None:
    with connect(target) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def safepoint(plan: PlanFile, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--plan", str(plan.path)])


def answer(result: Result) -> Any:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def taken(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Target]]:
    """A plan's folder in which `safepoint backup` was run once, with a store that works and one that does not."""
    server = servers(17)
    run(server.target, "create database commanded")
    target = server.target.on("commanded")
    run(
        target, "create table t (id int primary key, x text)", "insert into t select n, n from generate_series(1, 99) n"
    )
    folder = tmp_path_factory.mktemp("commanded")
    (folder / "not-a-folder").touch()
    os.environ[PASSWORD_ENV] = "only-for-tests"
    result = safepoint(plan_file(folder, target, stores=TWO_STORES), "backup", "--json")
    (folder / "backup.json").write_text(result.stdout)
    (folder / "backup.code").write_text(str(result.exit_code))
    yield folder, target
    run(server.target, "drop database commanded with (force)")


@pytest.fixture
def plan(taken: tuple[Path, Target], tmp_path: Path) -> PlanFile:
    """A copy of that folder, whose stores all work."""
    folder = Path(shutil.copytree(taken[0], tmp_path / "plan"))
    return plan_file(folder, taken[1])


def only_id(plan: PlanFile) -> str:
    (snapshot,) = (plan.state / "snapshots").iterdir()
    return snapshot.name


def test_a_backup_is_stored_where_it_can_be_and_fails_where_it_cannot(taken: tuple[Path, Target]) -> None:
    told = json.loads((taken[0] / "backup.json").read_text())
    assert {one["store"]: one["holds"] for one in told["stores"]} == {"offsite": True, "broken": False}
    assert "not-a-folder" in told["stores"][1]["error"]["subject"]
    assert told["proof"]["rows"] == 99
    assert (taken[0] / "backup.code").read_text() == str(int(ExitCode.FAILED))
    assert (taken[0] / "offsite" / told["id"] / "manifest.json").exists()


def test_backups_lists_what_there_is_also_where_a_store_does_not_answer(taken: tuple[Path, Target]) -> None:
    plan = load(taken[0] / "launch.toml")
    (one,) = answer(safepoint(plan, "backups", "--json"))
    assert (one["proven"], one["where"]) == (True, ["here", "offsite"])
    shown = safepoint(plan, "backups")
    assert one["id"] in shown.stdout  # never cut: it is copied into the next command


def test_verify_explain_names_table_column_and_key(plan: PlanFile, taken: tuple[Path, Target]) -> None:
    run(taken[1], "update t set x = 'other' where id = 42")
    try:
        told = answer(safepoint(plan, "verify", only_id(plan), "--explain", "--json"))
        shown = safepoint(plan, "verify", only_id(plan), "--explain")
    finally:
        run(taken[1], "update t set x = 42 where id = 42")
    (table,) = told["comparison"]["tables"]
    assert (table["table"], table["columns"], table["examples"][0]["key"]) == ("public.t", {"x": 1}, "(42)")
    assert "changed id = 42: x" in shown.stdout
    assert "restore: " in shown.stderr  # progress as lines, apart from the answer


def test_a_snapshot_that_is_only_in_a_store_is_verified_and_restored_from_there(
    plan: PlanFile, taken: tuple[Path, Target]
) -> None:
    name = only_id(plan)
    shutil.rmtree(plan.state / "snapshots" / name)
    assert answer(safepoint(plan, "verify", name, "--json"))["rows"] == 99
    told = answer(safepoint(plan, "restore", name, "--into", "commanded_copy", "--json"))
    try:
        assert (told["rows"], told["database"]) == (99, "commanded_copy")
        assert list((plan.state / "fetched").iterdir()) == []
    finally:
        run(taken[1].on("postgres"), "drop database commanded_copy with (force)")


def test_a_damaged_copy_in_a_store_is_found_before_the_server_is_asked(plan: PlanFile) -> None:
    name = only_id(plan)
    path = plan.folder / "offsite" / name / "globals.sql"
    path.write_bytes(path.read_bytes() + b"CREATE ROLE intruder;")
    result = safepoint(plan, "restore", name, "--into", "commanded_copy", "--from", "offsite")
    assert isinstance(result.exception, SafepointError) and "globals.sql" in result.exception.message
    assert list((plan.state / "fetched").iterdir()) == []


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


def aged(
    plan: PlanFile, name: str, days: float, *, launch: str | None = None, away: bool = True, of: str | None = None
) -> str:
    """A copy of the snapshot that is some days older, here and in the store; proven by its own proof."""
    folder = plan.state / "snapshots"
    copy = Path(shutil.copytree(folder / next(p.name for p in sorted(folder.iterdir())), folder / name))
    taken_at = datetime.now(UTC) - timedelta(days=days)
    manifest = replace(read_manifest(copy), id=name, taken_at=taken_at, launch_id=launch)
    if of is not None:
        manifest = replace(manifest, source=replace(manifest.source, database=of))
    write_manifest(copy, manifest)
    proof = json.loads((copy / "proof.json").read_text())
    proof.pop("check", None)
    (copy / "proof.json").write_text(json.dumps({**proof, "snapshot_id": name, "seal": manifest.seal}, indent=1) + "\n")
    assert read_proof(copy) is not None
    if away:
        store_snapshot(copy, open_store(plan.stores[0], plan.folder))
    return name


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


def test_keep_rules_of_a_store_are_its_own(plan: PlanFile, taken: tuple[Path, Target]) -> None:
    for days in (40, 70, 100):
        aged(plan, f"old-{days}", days)
    stores = LOCAL + "[stores.keep_rules]\nmonthly = 24\n"
    plan = plan_file(plan.folder, taken[1], stores=stores)
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
    plan: PlanFile, taken: tuple[Path, Target]
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
        run(taken[1].on("postgres"), "drop database if exists commanded_copy with (force)")
    verdicts = {one.place: one.verdict for one in done[0].decisions if one.snapshot_id == "old"}
    assert verdicts == {"here": "failed", "offsite": "dropped"}
    assert not carry_out(plan, plan_pruning(plan, now), now).failed
    assert not (plan.state / "snapshots" / "old").exists()


def test_a_snapshot_that_is_removed_from_its_store_while_it_is_fetched_is_told_and_not_taken_for_whole(
    plan: PlanFile,
) -> None:
    name, store = only_id(plan), open_store(plan.stores[0], plan.folder)
    with (
        pytest.raises(StoreError) as caught,
        at_hand(plan, name, "offsite", report=lambda _progress: store.remove(name)),
    ):
        pytest.fail("it was taken for whole")
    assert caught.value.remedy and list((plan.state / "fetched").iterdir()) == []


FETCHING = """
import sys; from pathlib import Path; from safepoint.config import load; from safepoint.launch.snapshots import at_hand
with at_hand(load(Path(sys.argv[1])), sys.argv[2], "offsite") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["prune", "another fetch", "another version's"])
def test_what_a_killed_command_fetched_goes_with_the_next_one_and_what_is_in_use_stays(
    plan: PlanFile, way: str
) -> None:
    """It is the copy in the clear of a snapshot that may be encrypted in its store."""
    name = only_id(plan)
    words = [sys.executable, "-c", FETCHING, str(plan.path), name]
    both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        folders = [Path(process.stdout.readline().strip()) for process in both if process.stdout]
        assert [(folder.name, (folder / "manifest.json").exists()) for folder in folders] == [(name, True)] * 2
        both[0].kill()
        both[0].wait()
        if way == "another version's":
            shutil.move(folders[0], plan.state / "fetched" / name)
        for path in (plan.state / "fetched").iterdir():
            os.utime(path, (0, 0))
        if way == "another fetch":
            with at_hand(plan, aged(plan, "other", 1), "offsite") as other:
                assert other.name == "other"
        else:
            carry_out(plan, Pruning((), {}), datetime.now(UTC))
        assert list((plan.state / "fetched").iterdir()) == [folders[1].parent]
        assert (folders[1] / "manifest.json").exists()
    finally:
        for process in both:
            process.communicate()
    assert list((plan.state / "fetched").iterdir()) == []


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
    plan: PlanFile, taken: tuple[Path, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safepoint.stores.retry.FIRST_WAIT", 0.01)
    old = aged(plan, "old", 50)
    away = '[[stores]]\nname = "appliance"\nurl = "sftp://backup@127.0.0.1:9/snapshots"\n'
    plan = plan_file(plan.folder, taken[1], stores=away + LOCAL)
    result = safepoint(plan, "prune", "--json")
    assert result.exit_code == int(ExitCode.FAILED)
    told = answer(result)
    assert list(told["unreachable"]) == ["appliance"]
    dropped = {(one["place"], one["snapshot"]) for one in told["decisions"] if one["verdict"] == "dropped"}
    assert dropped == {("here", old), ("offsite", old)}
    listed = safepoint(plan, "backups")
    assert listed.exit_code == int(ExitCode.FAILED)
    assert "appliance could not be listed" in listed.stderr and "shop-manual" in listed.stdout


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


def test_what_is_being_filled_is_not_swept(tmp_path: Path) -> None:
    with filling(tmp_path / "a.partial") as mine, filling(tmp_path / "b.partial") as other:
        for path in (mine, other):
            os.utime(path, (0, 0))
        assert list(abandoned(tmp_path)) == []
    (tmp_path / "c.partial").mkdir()  # made this moment, and not locked yet
    assert list(abandoned(tmp_path)) == [tmp_path / "a.partial", tmp_path / "b.partial"]
