"""Whole launches of the accounting site, as a user carries them out: by the commands, on real parts."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import forked
import psycopg
import pytest
from scene import brisk, unproven
from stage import Stage

from safepoint.launch import undo
from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.faults import VARIABLE
from safepoint.launch.plan import make_plan

# Between doing and recording, and between recording and telling the engine. The third boundary, before doing, is
# killed at in the long runs only: nothing has happened then.
BOUNDARIES = ("applied", "recorded")


def release_that_answers(stage: Stage) -> str | None:
    """The release that people see; None where the site is closed."""
    try:
        with urllib.request.urlopen(stage.plan.router.url + "/healthz", timeout=10) as answer:
            return str(answer.headers["X-Release"])
    except urllib.error.HTTPError:
        return None


def application_may_write(stage: Stage) -> bool:
    """Whether the application's own role can log in and is not read-only by default."""
    return stage.query("SHOW default_transaction_read_only") == [("off",)]


def slots_and_roles_left(stage: Stage) -> tuple[list[object], list[object]]:
    """What Safepoint may have left in the server: replication slots, roles."""
    with psycopg.connect(**stage.server.target.conninfo()) as connection:  # type: ignore[arg-type]
        slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'safepoint%'").fetchall()
    return [row[0] for row in slots], [row[0] for row in roles]


def test_a_rollback_that_discards_lists_every_entry_with_its_user(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=unproven)
    writers = stage.writers()
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    time.sleep(1)
    assert stage.safepoint("rollback", "--discard", "--plain", capture=True).returncode == 0
    tally = writers.stop()
    missing = stage.acknowledged() - stage.present()
    assert len(missing) >= tally.by_release["2.0"] > 0
    assert missing <= stage.listed()
    assert "user0001" in (stage.launch_folder / "affected.csv").read_text()


def test_a_rollback_after_a_launch_under_traffic_keeps_every_acknowledged_entry(stage: Stage) -> None:
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert release_that_answers(stage) == "2.0"
    assert application_may_write(stage)
    time.sleep(1.5)
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert release_that_answers(stage) == "1.0"
    time.sleep(0.5)
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0
    assert stage.acknowledged() - stage.present() == set()
    rollback = json.loads(stage.safepoint("report", "--json", capture=True).stdout)["rollback"]
    assert rollback["carried"] >= tally.by_release["2.0"]
    assert rollback["listed"] == 0
    balances = stage.query("SELECT sum(debit) - sum(credit), count(*) FROM ledger_journalline")
    assert balances[0][0] == 0
    assert stage.query("SELECT to_regnamespace('safepoint')::text") == [(None,)]
    assert slots_and_roles_left(stage) == ([], [])
    secrets = [stage.environment[name] for name in ("SAFEPOINT_DB_PASSWORD", "ACCOUNTING_DEMO_PASSWORD", "SECRET_KEY")]
    told = launched.stdout + launched.stderr + rolled_back.stdout + (stage.launch_folder / "ledger.jsonl").read_text()
    assert not [secret for secret in secrets if secret in told]


def test_what_the_old_schema_has_no_place_for_is_told_to_its_users_and_comes_back_with_the_next_launch(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=300, change=brisk)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    _writes_what_only_2_0_has_a_place_for(stage)
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    _says_who_is_affected(stage, rolled_back.stdout)
    _the_next_launch_brings_it_back(stage)


def _writes_what_only_2_0_has_a_place_for(stage: Stage) -> None:
    with psycopg.connect(stage.environment["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO ledger_tag (name, created_at) VALUES ('since the launch', now())")
        connection.execute(
            "INSERT INTO ledger_journalentry_tags (journalentry_id, tag_id) SELECT e.id, t.id FROM ledger_tag t, "
            "(SELECT id FROM ledger_journalentry ORDER BY id DESC LIMIT 3) e WHERE t.name = 'since the launch'"
        )
        connection.execute("UPDATE ledger_journalentry SET currency = 'USD' WHERE id % 2 = 0 AND id < 20")


def _says_who_is_affected(stage: Stage, said: str) -> None:
    page = stage.launch_folder / "affected.html"
    assert f"{page}" in said and stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "ledger_journalentry" in page.read_text() and "currency" in page.read_text()
    with (stage.launch_folder / "affected-users.csv").open(newline="") as file:
        letters = list(csv.DictReader(file))
    assert letters and all("come back with the next update" in line["text"] for line in letters)
    assert "affected.html" in (stage.safepoint("status", capture=True).stdout)


def _the_next_launch_brings_it_back(stage: Stage) -> None:
    text = stage.plan_path.read_text().replace("[launch]", '[launch]\nid = "again"', 1)
    stage.plan_path.write_text(text + "\n[wayback]\nprove = false\n")
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert stage.query("SELECT count(*) FROM ledger_journalentry WHERE currency = 'USD'") == [(9,)]
    tagged = "SELECT count(*) FROM ledger_journalentry_tags JOIN ledger_tag t ON t.id = tag_id WHERE t.name = %s"
    assert stage.query(tagged, "since the launch") == [(3,)]
    report = json.loads(stage.safepoint("report", "--json", capture=True).stdout)
    evidence = next(step["evidence"] for step in report["steps"] if step["id"] == "reattach")
    assert (evidence["values"], evidence["left"]) == (9, 0) and evidence["rows"] >= 4
    assert stage.query("SELECT to_regnamespace('safepoint_reattach')::text") == [(None,)]


def killed_at(stage: Stage, boundary: str, *words: str) -> None:
    """Run a command that dies at a boundary."""
    killed = forked.safepoint(
        [*words, "--plain", "--plan", str(stage.plan_path)],
        {**stage.environment, VARIABLE: boundary},
        stage.folder / "killed.log",
    )
    assert killed.returncode == -signal.SIGKILL, (boundary, killed.returncode, killed.stdout[-3000:])


def test_a_conductor_killed_at_every_step_boundary_goes_on_and_every_step_stands_once(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=brisk)
    plan = make_plan(stage.plan)
    steps = [step.id for step in plan.steps]
    for step in plan.steps:
        # Before the window a step leaves files only: one boundary will do there. The long runs kill at random instants.
        for boundary in BOUNDARIES if step.phase not in ("prepare", "freeze") else BOUNDARIES[1:]:
            killed_at(stage, f"{step.id}:{boundary}", "launch", "--now")
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    entries = entries_of(stage.plan)
    done = Counter(entry.step for entry in entries if entry.kind == "step.done")
    assert done == Counter(steps)
    assert status_of(entries) == "launched"
    assert release_that_answers(stage) == "2.0"
    migrations = stage.query("SELECT app, name, count(*) FROM django_migrations GROUP BY 1, 2 HAVING count(*) > 1")
    assert migrations == []


def test_a_rollback_killed_at_every_step_boundary_goes_on(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=brisk)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    plan = make_plan(stage.plan)
    steps = [step.id for step in undo.way_back(plan, [step.id for step in plan.steps])]
    for step in steps:
        killed_at(stage, f"{step}:applied", "rollback")
    ended = stage.safepoint("rollback", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = Counter(entry.step for entry in entries_of(stage.plan) if entry.kind == "step.done")
    assert [step for step in steps if done[step] != 1] == []
    assert release_that_answers(stage) == "1.0"
    assert slots_and_roles_left(stage) == ([], [])


def test_a_migration_that_cannot_run_is_found_on_a_copy_before_anything_live_is_touched(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=brisk)
    make_an_entry_that_2_0_cannot_take(stage)
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "The migration fails on a copy of the data" in ended.stdout
    assert "stop-traffic" not in {entry.step for entry in entries_of(stage.plan)}
    assert release_that_answers(stage) == "1.0"


def make_an_entry_that_2_0_cannot_take(stage: Stage) -> None:
    """Its memo is longer than the narrowed column."""
    stage.query(
        "UPDATE ledger_journalentry SET memo = repeat('x', 200) "
        "WHERE id = (SELECT min(id) FROM ledger_journalentry) RETURNING id"
    )


def test_a_migration_that_raises_rolls_back_by_itself_and_says_why(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=1_000, change=unproven)
    make_an_entry_that_2_0_cannot_take(stage)
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 5, ended.stdout + ended.stderr
    assert release_that_answers(stage) == "1.0"
    assert application_may_write(stage)
    assert slots_and_roles_left(stage) == ([], [])
    end = [entry for entry in entries_of(stage.plan) if entry.kind == "end"][-1]
    assert end.data["status"] == "rolled back"
    assert "ledger." in end.data["reason"]


def test_abort_of_a_launch_whose_conductor_died_in_the_window_opens_the_old_release(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=unproven)
    killed = stage.safepoint("launch", "--now", "--plain", capture=True, env={VARIABLE: "twin:applied"})
    assert killed.returncode == -signal.SIGKILL
    assert release_that_answers(stage) is None
    aborted = stage.safepoint("abort", "--plain", capture=True)
    assert aborted.returncode == 0, aborted.stdout + aborted.stderr
    assert release_that_answers(stage) == "1.0"
    assert application_may_write(stage)
    assert slots_and_roles_left(stage) == ([], [])
    again = stage.safepoint("abort", "--json", capture=True)
    assert again.returncode == 3
    assert "over already" in json.loads(again.stdout)["message"]


def test_a_lock_held_by_an_idle_transaction_becomes_a_question_and_retry_goes_on(
    make_stage: Callable[..., Stage],
) -> None:
    def impatient(text: str) -> str:
        return unproven(text).replace('lock_timeout = "5s"', 'lock_timeout = "300ms"\nlock_retries = 0')

    stage = make_stage(change=impatient)
    killed = stage.safepoint("launch", "--now", "--plain", capture=True, env={VARIABLE: "prove-quiet:recorded"})
    assert killed.returncode == -signal.SIGKILL
    with psycopg.connect(**stage.server.target.on("accounting").conninfo()) as idle:  # type: ignore[arg-type]
        idle.execute("LOCK TABLE ledger_journalentry IN ACCESS SHARE MODE")
        asked = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
        assert asked.returncode == 4, asked.stdout + asked.stderr
    retried = stage.safepoint("retry", capture=True)
    assert retried.returncode == 0, retried.stdout + retried.stderr
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert release_that_answers(stage) == "2.0"


@pytest.mark.slow  # test_two_laptops has the same from two state folders
def test_two_conductors_never_work_at_once(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=unproven)
    argv = [
        str(Path(sys.executable).parent / "safepoint"),
        "launch",
        "--now",
        "--plain",
        "--plan",
        str(stage.plan_path),
    ]
    first = subprocess.Popen(argv, env={**os.environ, **stage.environment}, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        deadline = time.monotonic() + 20
        while not (stage.launch_folder / "ledger.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = stage.safepoint("launch", "--now", "--json", capture=True)
        assert second.returncode == 3
        assert "Another conductor is at work" in json.loads(second.stdout)["message"]
    finally:
        first.communicate(timeout=120)
    assert first.returncode == 0
