"""A launch that a gate said no to before its window goes on once the cause is removed; and one of another version."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from scene import Scene, evidence, kill_at, let_hours_pass, release_that_answers, slots_and_roles_left, unproven
from stage import DEMO, Stage

from safepoint.launch.engine import COURSE_VERSION
from safepoint.launch.ledger import Ledger
from safepoint.launch.lock import ConductorLock
from safepoint.wayback.fence.login import migration_login


def cleared_by_the_new_release_only(text: str) -> str:
    words = '["shell", "-c", "import os; assert not os.getcwd().endswith(\'release-1.0\'), \'the cache is away\'"]'
    assert '[["clear_cache"]]' in text
    return unproven(text).replace('[["clear_cache"]]', f"[{words}]")


def begun_by(stage: Stage, version: str) -> None:
    with sqlite3.connect(stage.launch_folder / "engine.sqlite") as database:
        database.execute("update workflow_status set application_version = ?", (version,))


def staged(stage: Stage) -> str:
    """The process of the new release."""
    (found,) = (stage.folder / "site").glob("accounting-2.0-*.pid")
    return found.read_text()


@pytest.mark.slow
def test_what_a_failed_run_found_and_started_is_found_and_started_anew(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    copy = tmp_path / "release-2.0"
    shutil.copytree(DEMO / "accounting" / "release-2.0", copy)
    release = f"{DEMO}/accounting/release-2.0"
    stage = make_stage(lines=500, change=lambda text: unproven(text).replace(release, str(copy)))
    kill_at(stage, "freeze:recorded", "launch", "--now")
    # The engine goes on with no course of another version, and would wait for it without a word.
    begun_by(stage, "safepoint-course-1")
    ledger = (stage.launch_folder / "ledger.jsonl").read_bytes()
    for word in ("launch", "abort"):
        refused = stage.safepoint(word, "--plain", capture=True)
        assert refused.returncode == 3 and "Another version of Safepoint" in refused.stderr, refused.stderr
    assert (stage.launch_folder / "ledger.jsonl").read_bytes() == ledger
    begun_by(stage, COURSE_VERSION)

    (copy / "README").write_text("The code that is launched is not the code that was frozen.\n")
    no_go = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert no_go.returncode == 3 and "changed since the freeze" in no_go.stdout, no_go.stdout + no_go.stderr
    former, process = evidence(stage, "final-snapshot")["id"], staged(stage)
    plan = stage.plan_path.read_text()
    stage.plan_path.write_text(plan.replace('max_age = "2h"', 'max_age = "100ms"'))
    too_old = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert too_old.returncode == 3 and "0.10 s is allowed" in too_old.stdout, too_old.stdout + too_old.stderr
    assert "changed since the freeze" not in too_old.stdout
    assert evidence(stage, "final-snapshot")["id"] != former and evidence(stage, "final-proof")["tables"]
    assert staged(stage) != process
    stage.plan_path.write_text(plan)
    # Killed while the login was tried in this run; the one of an earlier run had gone.
    kill_at(stage, "migrate-plan:begun", "launch", "--now")
    migration_login(stage.server.target.on("accounting"), stage.plan.launch_id, "accounting")
    aborted = stage.safepoint("abort", "--plain", capture=True)
    assert aborted.returncode == 0, aborted.stdout + aborted.stderr
    assert slots_and_roles_left(stage) == ([], [])
    # Killed in the final dump, and gone on with hours later: what is taken then is not as old as its name.
    kill_at(stage, "final-snapshot:begun", "launch", "--again", "--now")
    with Ledger(stage.launch_folder / "ledger.jsonl", clock=lambda: datetime.now(UTC) - timedelta(hours=3)) as ledger:
        named = {"id": f"{stage.plan.launch_id}-final-20260301T060000Z"}
        ledger.append("fact", "fact:1:snapshot:final", named, step="final-snapshot")
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert release_that_answers(stage) == "2.0"


@pytest.mark.slow
def test_a_go_for_the_window_that_is_hours_old_closes_nothing_by_itself(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=unproven)
    plan = stage.plan_path.read_text()
    # Killed between the gate and the closing of the site; gone on with when the final snapshot is too old for the gate.
    kill_at(stage, "gate-stop:recorded", "launch", "--now")
    let_hours_pass(stage.launch_folder / "ledger.jsonl", 3)
    stage.plan_path.write_text(plan.replace('max_age = "2h"', 'max_age = "100ms"'))
    no_go = stage.safepoint("launch", "--plain", capture=True)
    assert no_go.returncode == 3 and "was given 3 h" in no_go.stdout, no_go.stdout + no_go.stderr
    assert "would not be given now: no-go: it is" in no_go.stdout and release_that_answers(stage) == "1.0"
    stage.plan_path.write_text(plan)
    # Gone on with after an hour that nothing but itself speaks against: the window is not begun without a word.
    kill_at(stage, "ready:recorded", "launch", "--again", "--now")
    let_hours_pass(stage.launch_folder / "ledger.jsonl", 1)
    asked = stage.safepoint("launch", "--plain", "--no-wait", capture=True)
    assert asked.returncode == 4 and "The site is still open." in asked.stdout, asked.stdout + asked.stderr
    assert release_that_answers(stage) == "1.0"
    # A word holds as long as the gate's own; one that is hours old, too, is asked for again.
    assert stage.safepoint("retry", capture=True).returncode == 0
    kill_at(stage, "stop-traffic:begun", "launch")
    let_hours_pass(stage.launch_folder / "ledger.jsonl", 0.5)
    again = stage.safepoint("launch", "--plain", "--no-wait", capture=True)
    assert again.returncode == 4 and "was given 30 min" in again.stdout, again.stdout + again.stderr
    assert stage.safepoint("retry", capture=True).returncode == 0
    # Where the site was closed already, every second counts.
    kill_at(stage, "stop-traffic:applied", "launch")
    assert release_that_answers(stage) is None
    let_hours_pass(stage.launch_folder / "ledger.jsonl", 3)
    launched = stage.safepoint("launch", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert release_that_answers(stage) == "2.0"


@pytest.mark.slow
def test_what_stands_by_heeds_no_conductor_of_another_launch_and_no_retirement_that_reached_nobody(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=cleared_by_the_new_release_only)
    reader = {**stage.server.target.on("accounting").conninfo(), "replication": "database"}
    with psycopg.connect(**reader, autocommit=True):  # type: ignore[arg-type]
        asked = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
        assert asked.returncode == 4 and "replication consumers read" in asked.stdout, asked.stdout + asked.stderr
        assert release_that_answers(stage) == "1.0"  # the fence would have found it with the site closed
    assert stage.safepoint("go", capture=True).returncode == 0
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    # Another launch of this application is conducted: its conductor takes no order for this one.
    with ConductorLock(stage.plan.conductor_lock, "accounting-3.0-20260301", "safepoint launch"):
        ordered = stage.safepoint("rollback", "--plain", capture=True)
        assert ordered.returncode == 3 and "accounting-3.0-20260301" in ordered.stderr, ordered.stdout + ordered.stderr
        once = stage.safepoint("follow", "--once", "--json", capture=True)
        assert once.returncode == 0 and json.loads(once.stdout)["retained_bytes"] > 0, once.stdout + once.stderr
    # A shell with another password: a rollback would only close the site, and a retirement remove nothing.
    another = {"SAFEPOINT_DB_PASSWORD": "another"}
    failed = stage.safepoint("rollback", "--plain", capture=True, env=another, timeout=60)
    assert failed.returncode == 1 and "SAFEPOINT_DB_PASSWORD" not in failed.stdout, failed.stdout + failed.stderr
    assert "password" in failed.stderr and release_that_answers(stage) == "2.0"
    failed = stage.safepoint("retire", "--now", capture=True, env=another)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert release_that_answers(stage) == "2.0"
    # The new release's command to stop fails, whether it runs or not.
    plan = stage.plan_path.read_text()
    head, tail = plan.split("[releases.new]")
    tail = tail.replace("stop = [", 'stop = ["false", ', 1)
    stage.plan_path.write_text(f"{head}[releases.new]{tail}")
    # The cache of the old release cannot be cleared, which would be tried for ever with the site closed.
    scene = Scene(stage)
    try:
        live = scene.conduct("rollback")
        live.until("ask", "back-new-gone")
        assert [one["command"].split()[1] for one in scene.status()["standing"]["commands"]] == ["retry", "return"]
        stage.run(stage.plan.releases.new, *stage.plan.releases.new.stop)  # by hand
        scene.seen = len(scene.entries)
        assert scene.run("retry").code == 0
        live.until("ask", "back-new-gone")
        assert scene.run("go").code == 0
        live.until("ask", "back-cache", 90)  # it is tried again for a time
        assert release_that_answers(stage) is None
        offered = [one["command"].split()[1] for one in scene.status()["standing"]["commands"]]
        assert offered == ["go", "retry", "return"]
        assert scene.run("go").code == 0
        assert live.end().code == 0
    finally:
        scene.close()
    assert release_that_answers(stage) == "1.0"
