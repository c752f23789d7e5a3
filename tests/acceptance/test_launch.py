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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from scene import (
    application_may_write,
    brisk,
    evidence,
    kill_at,
    open_to_others,
    release_that_answers,
    slots_and_roles_left,
    unproven,
)
from stage import Stage

from safepoint.config import load
from safepoint.launch import undo
from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.faults import VARIABLE
from safepoint.launch.plan import Plan, make_plan

# Between doing and recording, and between recording and telling the engine. The third boundary, before doing, is
# killed at in the long runs only: nothing has happened then.
BOUNDARIES = ("applied", "recorded")
HOW = ["in turn", pytest.param("each", marks=pytest.mark.slow)]


def watched(stage: Stage) -> dict[str, str]:
    """Who is let in, and the verdicts of one look by `safepoint watch`."""
    look = stage.safepoint("watch", "--once", "--json", capture=True)
    seen = json.loads(look.stdout)
    assert look.returncode == (0 if seen["verdict"] == "pass" else 1), look.stdout + look.stderr
    return {"release": seen["release"], **{point["name"]: point["verdict"] for point in seen["checkpoints"]}}


def test_a_rollback_after_a_launch_under_traffic_keeps_every_acknowledged_entry(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(major=18)  # the others: tests/acceptance/test_versions.py
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert release_that_answers(stage) == "2.0"
    assert application_may_write(stage)
    looked = {"health": "pass", "router": "pass", "size": "pass", "connections": "pass", "errors": "pass"}
    looked["database-errors"] = "pass"
    assert watched(stage) == {"release": "2.0", **looked, "capture": "pass"}
    time.sleep(1)
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert release_that_answers(stage) == "1.0"
    with (stage.plan.folder / str(stage.plan.application.error_log)).open("a") as file:
        file.write("ERROR of the release that is recovering\n")
    assert watched(stage) == {"release": "1.0", **looked, "errors": "fail"}
    assert watched(stage) == {"release": "1.0", **looked}  # each error is told once
    assert "could not be kept" not in evidence(stage, "back-logs")["summary"]
    assert "terminating connection" in (stage.launch_folder / "logs" / "database.log").read_text()
    tally = writers.stop()
    assert tally.by_release["1.0"] > 0 and tally.by_release["2.0"] > 0
    assert stage.acknowledged() - stage.present() == set()
    assert evidence(stage, "survey")["server_version"].startswith("18.")
    assert evidence(stage, "proof")["server_version"].startswith("18.")
    assert evidence(stage, "arm")["mode"] == "logical"
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
    # Ledger, spool, engine's state, what was put aside, who is affected: of all that nothing is for others.
    assert stage.safepoint("report", capture=True).returncode == 0
    assert (stage.launch_folder / "spool").exists() and open_to_others(stage.plan.state) == []


@pytest.mark.parametrize("how", HOW)
def test_a_launch_and_its_rollback_killed_at_every_step_boundary_go_on_and_the_next_launch_brings_back_what_was_kept(
    make_stage: Callable[..., Stage], how: str
) -> None:
    """Launches are what takes time here, so this is one with its whole life."""
    stage = make_stage(lines=500, change=brisk)
    _killed_at_every_boundary_the_launch_goes_on_and_every_step_stands_once(stage, each=how == "each")
    _writes_what_only_2_0_has_a_place_for(stage)
    _says_who_is_affected(stage, _killed_at_every_boundary_the_rollback_goes_on(stage))
    _the_next_launch_brings_it_back(stage)


def _boundaries(plan: Plan, *, each: bool) -> Iterator[tuple[str, str]]:
    """Before the window a step leaves files only: one boundary will do there. The long runs kill at random instants.

    In turn: one boundary of each step of the window, and every third step before it.
    """
    for number, step in enumerate(plan.steps):
        early = step.phase in ("prepare", "freeze")
        if each:
            yield from ((step.id, boundary) for boundary in (BOUNDARIES[1:] if early else BOUNDARIES))
        elif not early or number % 3 == 0:
            yield step.id, BOUNDARIES[1 if early else number % 2]


def _killed_at_every_boundary_the_launch_goes_on_and_every_step_stands_once(stage: Stage, *, each: bool) -> None:
    plan = make_plan(stage.plan)
    steps = [step.id for step in plan.steps]
    for step, boundary in _boundaries(plan, each=each):
        kill_at(stage, f"{step}:{boundary}", "launch", "--now")
        if step == "migrate":  # a slot would keep all that the migration logs
            assert slots_and_roles_left(stage)[0] == []
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    entries = entries_of(stage.plan)
    done = Counter(entry.step for entry in entries if entry.kind == "step.done")
    assert done == Counter(steps)
    assert status_of(entries) == "launched"
    assert release_that_answers(stage) == "2.0"
    migrations = stage.query("SELECT app, name, count(*) FROM django_migrations GROUP BY 1, 2 HAVING count(*) > 1")
    assert migrations == []


def _killed_at_every_boundary_the_rollback_goes_on(stage: Stage) -> str:
    plan = make_plan(stage.plan)
    steps = [step.id for step in undo.way_back(plan, [step.id for step in plan.steps])]
    for step in steps:
        kill_at(stage, f"{step}:applied", "rollback")
    ended = stage.safepoint("rollback", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    done = Counter(entry.step for entry in entries_of(stage.plan) if entry.kind == "step.done")
    assert [step for step in steps if done[step] != 1] == []
    assert release_that_answers(stage) == "1.0"
    assert slots_and_roles_left(stage) == ([], [])
    return ended.stdout


def _writes_what_only_2_0_has_a_place_for(stage: Stage) -> None:
    with psycopg.connect(stage.environment["DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO ledger_tag (name, created_at) VALUES ('since the launch', now())")
        connection.execute(
            "INSERT INTO ledger_journalentry_tags (journalentry_id, tag_id) SELECT e.id, t.id FROM ledger_tag t, "
            "(SELECT id FROM ledger_journalentry ORDER BY id DESC LIMIT 3) e WHERE t.name = 'since the launch'"
        )
        connection.execute("UPDATE ledger_journalentry SET currency = 'USD' WHERE id % 2 = 0 AND id < 20")
        # A row of a table that 1.0 has, which names what 1.0 does not know.
        connection.execute(
            "INSERT INTO auth_user_user_permissions (user_id, permission_id) "
            "SELECT (SELECT max(id) FROM auth_user), id FROM auth_permission WHERE codename = 'add_tag'"
        )


def _says_who_is_affected(stage: Stage, said: str) -> None:
    page = stage.launch_folder / "affected.html"
    assert f"{page}" in said and stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "ledger_journalentry" in page.read_text() and "currency" in page.read_text()
    with (stage.launch_folder / "affected-users.csv").open(newline="") as file:
        letters = list(csv.DictReader(file))
    assert open_to_others(stage.plan.state) == []
    assert letters and all("come back with the next update" in line["text"] for line in letters)
    assert "affected.html" in (stage.safepoint("status", capture=True).stdout)


def another_launch(stage: Stage) -> None:
    """Another launch on the same site, whose way back is not proven on a copy first."""
    text = stage.plan_path.read_text().replace("[launch]", '[launch]\nid = "again"', 1)
    stage.plan_path.write_text(text + "\n[wayback]\nprove = false\n")
    stage.plan = load(stage.plan_path)


def _the_next_launch_brings_it_back(stage: Stage) -> None:
    another_launch(stage)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert stage.query("SELECT count(*) FROM ledger_journalentry WHERE currency = 'USD'") == [(9,)]
    tagged = "SELECT count(*) FROM ledger_journalentry_tags JOIN ledger_tag t ON t.id = tag_id WHERE t.name = %s"
    assert stage.query(tagged, "since the launch") == [(3,)]
    report = json.loads(stage.safepoint("report", "--json", capture=True).stdout)
    evidence = next(step["evidence"] for step in report["steps"] if step["id"] == "reattach")
    assert (evidence["values"], evidence["left"]) == (9, 0) and evidence["rows"] >= 5
    granted = "SELECT p.codename FROM auth_user_user_permissions JOIN auth_permission p ON p.id = permission_id"
    assert ("add_tag",) in stage.query(granted)
    assert stage.query("SELECT to_regnamespace('safepoint_reattach')::text") == [(None,)]


def test_a_migration_that_cannot_run_is_found_on_a_copy_and_where_nobody_looks_it_rolls_back_by_itself(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=brisk)
    # Its memo is longer than the narrowed column.
    stage.query(
        "UPDATE ledger_journalentry SET memo = repeat('x', 200) "
        "WHERE id = (SELECT min(id) FROM ledger_journalentry) RETURNING id"
    )
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "The migration fails on a copy of the data" in ended.stdout
    assert "stop-traffic" not in {entry.step for entry in entries_of(stage.plan)}
    assert release_that_answers(stage) == "1.0"
    another_launch(stage)
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 5, ended.stdout + ended.stderr
    assert release_that_answers(stage) == "1.0"
    assert application_may_write(stage)
    assert slots_and_roles_left(stage) == ([], [])
    end = [entry for entry in entries_of(stage.plan) if entry.kind == "end"][-1]
    assert end.data["status"] == "rolled back"
    assert "ledger." in end.data["reason"]


def test_a_lock_held_by_an_idle_transaction_becomes_a_question_and_a_rollback_that_discards_lists_every_entry(
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
    writers = stage.writers()
    ended = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert release_that_answers(stage) == "2.0"
    time.sleep(1)  # people post on 2.0 meanwhile
    assert stage.safepoint("rollback", "--discard", "--plain", capture=True).returncode == 0
    tally = writers.stop()
    missing = stage.acknowledged() - stage.present()
    assert len(missing) >= tally.by_release["2.0"] > 0
    assert missing <= stage.listed()
    assert "user0001" in (stage.launch_folder / "affected.csv").read_text()


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
