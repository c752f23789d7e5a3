"""What stands by for the way back: a twin that is kept level, its return, another machine, and its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable

import psycopg
import pytest
from scene import POST, SAFEPOINT, brisk, evidence, kill_at, open_twin
from stage import Stage

from safepoint.backup import fingerprint
from safepoint.launch.begin import entries_of, launch_folder, status_of
from safepoint.launch.conductor import make_order
from safepoint.launch.ledger import Entry, Ledger
from safepoint.launch.runs import begin_run
from safepoint.wayback.names import capture_name


def level(text: str) -> str:
    """A twin that is kept level before the window, followed live after it."""
    return brisk(text) + '\n[wayback]\ntwin = "logical"\nfollow = "live"\n'


def unproven(text: str) -> str:
    """Quick: nothing is carried, all is listed."""
    return brisk(text) + '\n[wayback]\ntwin = "logical"\nprove = false\n'


def left(stage: Stage) -> list[object]:
    """What Safepoint may have left in the server, whatever it is called."""
    with psycopg.connect(**stage.server.target.conninfo()) as connection:  # type: ignore[arg-type]
        slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'safepoint%'").fetchall()
        twins = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE '%twin%'").fetchall()
    return [*slots, *roles, *twins, *stage.query("SELECT pubname FROM pg_publication")]


def make_keyless(stage: Stage) -> None:
    """A table that is nobody's model and has no key, with a row that stands twice."""
    with psycopg.connect(**stage.server.target.on("accounting").conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE TABLE imported_line (what text, amount numeric)")
        connection.execute("GRANT SELECT ON imported_line TO PUBLIC")
        connection.execute("INSERT INTO imported_line VALUES ('rent', 1.0), ('rent', 1.0), (NULL, 1.00)")


def test_a_level_twin_survives_kills_and_a_rollback_from_another_machine_keeps_every_entry(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=level)
    make_keyless(stage)
    writers = stage.writers()
    for boundary in ("final-snapshot:applied", "seed-twin:applied", "gate-stop:recorded", "twin:applied"):
        kill_at(stage, boundary, "launch", "--now")
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert evidence(stage, "seed-twin")["kind"] == "logical"
    assert evidence(stage, "twin")["kind"] == "logical", evidence(stage, "twin")
    assert len(left(stage)) == 3, left(stage)  # the twin, the capture's slot and its publication
    time.sleep(1.0)
    # Where the launch was conducted is gone; its plan file and state folder were copied.
    elsewhere = stage.folder.with_name("another-machine")
    shutil.copytree(stage.plan.state, elsewhere / "state")
    plan = elsewhere / "launch.toml"
    plan.write_text(stage.plan_path.read_text().replace(f'"{stage.folder}/state"', '"state"'))
    stage.plan.state.rename(stage.plan.state.with_name("lost"))
    done = subprocess.run(
        [SAFEPOINT, "rollback", "--plain", "--plan", str(plan)],
        env={**os.environ, **stage.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    time.sleep(0.5)
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0
    assert stage.acknowledged() - stage.present() == set()
    assert stage.query("SELECT what, amount::text, count(*) FROM imported_line GROUP BY 1, 2 ORDER BY 1, 2") == [
        ("rent", "1.0", 2),
        (None, "1.00", 1),
    ]
    assert left(stage) == []


@pytest.mark.slow
def test_an_abort_before_the_window_leaves_nothing_of_a_level_twin(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=unproven)
    make_keyless(stage)
    before = fingerprint.definitions(stage.server.target.on("accounting"))
    kill_at(stage, "seed-twin:recorded", "launch", "--now")
    assert len(left(stage)) == 3
    aborted = stage.safepoint("abort", "--plain", capture=True)
    assert aborted.returncode == 0, aborted.stdout + aborted.stderr
    assert left(stage) == []
    assert fingerprint.compare(before, fingerprint.definitions(stage.server.target.on("accounting"))) == ()


@pytest.mark.slow
def test_a_slot_that_is_lost_before_the_window_is_said_at_the_gate_and_the_twin_is_copied(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=unproven)
    kill_at(stage, "seed-twin:recorded", "launch", "--now")
    with psycopg.connect(**stage.server.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    asked = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert asked.returncode == 4 and "the window will be longer by its copy" in asked.stdout
    assert stage.safepoint("go", capture=True).returncode == 0
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    twin = evidence(stage, "twin")
    assert twin["kind"] == "template" and "replication slot" in str(twin["fallen_back"])


def test_a_rollback_is_turned_round_and_a_launch_is_retired_without_a_trace(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=unproven)
    writers = stage.writers()
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    migrated = fingerprint.definitions(stage.server.target.on("accounting"))
    # A kill came when the rollback was in the ledger, and the engine did not know of it yet.
    with Ledger(launch_folder(stage.plan) / "ledger.jsonl") as ledger:
        begin_run(ledger, "rollback", make_order("rollback"))
    kill_at(stage, "back-start-old:applied", "rollback")
    # Nobody is let in, but a worker of the old release runs, and writes to the twin, which is live for now.
    (name,) = stage.query("SELECT display_name FROM users_userprofile ORDER BY id LIMIT 1")[0]
    stage.query("UPDATE users_userprofile SET phone = '+44 20 7946 0018' WHERE display_name = %s RETURNING id", name)
    returned = stage.safepoint("return", "--json", capture=True)
    assert returned.returncode == 0, returned.stdout + returned.stderr
    answer = json.loads(returned.stdout)
    assert (answer["launch"], answer["status"]) == (stage.plan.launch_id, "launched")
    assert answer["reason"].startswith("return ordered by ")
    assert status_of(entries_of(stage.plan)) == "launched"
    time.sleep(0.5)
    writers.stop()
    # The migrated database is live again, with everything that was ever acknowledged, and is captured still.
    assert stage.acknowledged() - stage.present() == set()
    assert stage.query("SELECT count(*) > 0 FROM ledger_posting") == [(True,)]
    # What the worker wrote stays behind in the twin: it is listed with its user, and said where it is read.
    found = evidence(stage, "forth-between")
    assert (found["transactions"], found["rows"]) == (1, 1), found
    assert list(found["users"].values()) == [1]
    listed = (stage.plan.state / "launches" / stage.plan.launch_id / "left-behind.csv").read_text()
    assert "users_userprofile" in listed and "+44 20 7946 0018" in listed
    assert "left-behind.csv" in stage.safepoint("status", capture=True).stdout
    assert stage.safepoint("return", capture=True).returncode == 3
    once = stage.safepoint("follow", "--once", "--json", capture=True)
    assert once.returncode == 0, once.stdout + once.stderr
    (round_,) = [json.loads(line) for line in once.stdout.splitlines()]
    assert round_["launch"] == stage.plan.launch_id and {*round_} == {"launch", "spooled", "applied", "retained_bytes"}
    assert round_["retained_bytes"] > 0
    early = stage.safepoint("retire", capture=True)  # its day is long over; but it was carried out today
    assert early.returncode == 3 and "is kept until" in early.stderr, early.stdout + early.stderr
    retired = stage.safepoint("retire", "--now", capture=True)
    assert retired.returncode == 0, retired.stdout + retired.stderr
    assert left(stage) == []
    found = fingerprint.compare(migrated, fingerprint.definitions(stage.server.target.on("accounting")))
    # The capture's own is gone, and nothing else: its publication and what stood beside it in a schema of that name.
    own = capture_name(stage.plan.launch_id)
    assert [one for one in found if own not in f"{one.name} {one.expected}" or one.found is not None] == []
    late = stage.safepoint("rollback", "--plain", capture=True)
    assert late.returncode == 3 and "retired" in late.stdout + late.stderr


@pytest.mark.slow
def test_a_rollback_that_was_turned_round_is_taken_again_and_carries_the_rest(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=level)
    writers = stage.writers()
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    time.sleep(1.0)  # people post on 2.0 meanwhile
    kill_at(stage, "back-start-old:applied", "rollback")
    (name,) = stage.query("SELECT display_name FROM users_userprofile ORDER BY id LIMIT 1")[0]
    stage.query("UPDATE users_userprofile SET phone = '+44 20 7946 0018' WHERE display_name = %s RETURNING id", name)
    kill_at(stage, "forth-between:applied", "return")
    returned = stage.safepoint("return", "--plain", capture=True)
    assert returned.returncode == 0, returned.stdout + returned.stderr
    assert evidence(stage, "forth-between")["transactions"] == 1
    time.sleep(1.0)  # people post on 2.0 meanwhile
    kill_at(stage, "back-between:applied", "rollback")
    done = stage.safepoint("rollback", "--plain", capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    time.sleep(0.5)  # and on 1.0 again
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0
    assert stage.acknowledged() - stage.present() == set()
    assert evidence(stage, "back-carry")["carried"] == evidence(stage, "back-list")["transactions"]
    # What the old release's worker wrote into the twin is there again, in its place.
    phones = stage.query("SELECT phone FROM users_userprofile WHERE display_name = %s", name)
    assert phones == [("+44 20 7946 0018",)]
    assert left(stage) == []


@pytest.mark.slow
def test_a_lock_in_the_way_is_asked_about_and_a_server_that_is_restarted_in_a_rollback_is_waited_for(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=brisk)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as connection:
        for _ in range(300):
            connection.execute(POST)
    # The replay waits for this lock: at first until it gives up, then until the blow falls into the middle of it.
    holding = open_twin(stage)
    holding.execute("LOCK TABLE ledger_journalline")
    with (stage.folder / "rolled-back.log").open("w") as log:
        rollback = subprocess.Popen(
            [SAFEPOINT, "rollback", "--stop-first", "--plain", "--plan", str(stage.plan_path)],
            env={**os.environ, **stage.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def until(kind: str, times: int) -> Entry:
            while True:
                found = [one for one in entries_of(stage.plan) if one.kind == kind and one.step == "back-carry"]
                if len(found) == times:
                    return found[-1]
                assert rollback.poll() is None
                time.sleep(0.02)

        asked = until("ask", 1)
        assert "lock was not had" in asked.data["question"], asked
        assert "`safepoint retry`" in asked.data["question"], asked
        assert stage.safepoint("retry", capture=True).returncode == 0
        until("step.begun", 2)
        time.sleep(0.5)
        stage.server.stop("immediate")
        time.sleep(1.0)
        stage.server.start()
        code = rollback.wait(90)
    assert code == 0, (stage.folder / "rolled-back.log").read_text()
    carried = evidence(stage, "back-carry")
    assert carried["carried"] == carried["transactions"] >= 300, carried
    failed = [entry.data["verdict"] for entry in entries_of(stage.plan) if entry.kind == "step.failed"]
    assert failed == ["inconclusive"]  # a question, to which `go` was an answer, too
