"""The course on the real engine: killed anywhere, it goes on where it was; orders outlive the conductor."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import forked
import pytest
from engine_process import PLAN, WAY_BACK, WORKFLOW, main

from safepoint.launch.engine import send

SCRIPT = Path(__file__).with_name("engine_process.py")
WHOLE = ["plan", *(line for step in PLAN for line in (f"remaining {step['id']}", f"step {step['id']} 1"))]
WHOLE.append("end launched")


def start(folder: Path, kill: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), kill], stdout=subprocess.PIPE, text=True)


def conduct(folder: Path, kill: str = "") -> tuple[int, str]:
    """One life of a conductor: how it ended, and the last line that it said."""
    done = forked.call(lambda: main(folder, kill), (str(folder), kill), folder / "said", timeout=60)
    return done.returncode, (done.stdout.splitlines() or [""])[-1]


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


def until_asked(folder: Path, process: subprocess.Popen[str], question: str) -> None:
    deadline = time.monotonic() + 30
    while question not in effects(folder):
        assert process.poll() is None and time.monotonic() < deadline, effects(folder)
        time.sleep(0.02)


def test_a_course_carries_out_each_work_once_also_when_started_again_after_its_end(tmp_path: Path) -> None:
    for _ in range(2):
        assert conduct(tmp_path) == (0, "SUCCESS []")
        assert effects(tmp_path) == WHOLE
    with sqlite3.connect(tmp_path / "engine" / "engine.sqlite") as database:
        outputs = [row[0] for row in database.execute("select output from operation_outputs where output is not null")]
    # A person can read the engine's state: it is JSON, and holds what the steps came to.
    assert {"verdict": "pass", "summary": "migrate pass"} in [json.loads(output) for output in outputs]


@pytest.mark.parametrize("lives", [1, 2])
def test_while_a_step_takes_long_the_engine_asks_its_database_next_to_nothing(tmp_path: Path, lives: int) -> None:
    # A migration may share the processors: 70 questions a second made one of 67 s a second longer.
    (tmp_path / "verdicts.json").write_text(json.dumps({"seconds": {"migrate": 3}}))
    if lives == 2:
        assert conduct(tmp_path, "step:migrate:before")[0] == -signal.SIGKILL
    assert conduct(tmp_path) == (0, "SUCCESS []")
    assert int((tmp_path / "asked").read_text()) < 30


def test_killed_before_each_step_it_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    for step in PLAN:
        assert conduct(tmp_path, f"step:{step['id']}:before")[0] == -signal.SIGKILL
    assert conduct(tmp_path) == (0, "SUCCESS []")
    assert effects(tmp_path) == WHOLE


def test_killed_before_an_effect_is_recorded_it_repeats_that_work_and_no_other(tmp_path: Path) -> None:
    for point in ("plan::after", "step:migrate:after", "end:launched:after"):
        assert conduct(tmp_path, point)[0] == -signal.SIGKILL, point
    assert conduct(tmp_path) == (0, "SUCCESS []")
    counted = Counter(effects(tmp_path))
    assert {work for work, times in counted.items() if times == 2} == {"plan", "step migrate 1", "end launched"}
    assert set(counted) == set(WHOLE)
    assert max(counted.values()) == 2


def test_killed_on_the_way_back_it_goes_on_with_the_way_back(tmp_path: Path) -> None:
    (tmp_path / "verdicts.json").write_text(json.dumps({"migrate:1": "fail"}))
    assert conduct(tmp_path, "step:back-swap:before")[0] == -signal.SIGKILL
    assert conduct(tmp_path, "step:back-open:before")[0] == -signal.SIGKILL
    assert conduct(tmp_path) == (0, "SUCCESS []")
    steps = [line for line in effects(tmp_path) if line.startswith("step")]
    back = [f"step {step['id']} 1" for step in WAY_BACK]
    assert steps == ["step snapshot 1", "step migrate 1", *back]


@pytest.fixture
def in_doubt(tmp_path: Path) -> Path:
    (tmp_path / "verdicts.json").write_text(json.dumps({"migrate:1": "inconclusive", "watch:1": "inconclusive"}))
    return tmp_path


def go(gate: str, number: int) -> dict[str, str]:
    return {"id": f"order-{number}", "order": "go", "by": "grace", "gate": gate}


def test_an_order_from_another_process_answers_the_open_question(in_doubt: Path) -> None:
    process = start(in_doubt)
    try:
        until_asked(in_doubt, process, "ask migrate")
        begun = time.monotonic()
        send(in_doubt / "engine", WORKFLOW, go("migrate", 1))
        until_asked(in_doubt, process, "ask watch")
        assert time.monotonic() - begun < 3.0
        send(in_doubt / "engine", WORKFLOW, {"id": "order-2", "order": "rollback", "by": "grace"})
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert said.splitlines()[-1] == "SUCCESS []"
    assert "end rolled back" in effects(in_doubt)


def test_an_order_given_while_no_conductor_lives_is_obeyed_by_the_next_one(in_doubt: Path) -> None:
    process = start(in_doubt)
    try:
        until_asked(in_doubt, process, "ask migrate")
    finally:
        process.kill()
        process.communicate()
    for number, gate in enumerate(("migrate", "watch")):
        order = go(gate, number)
        send(in_doubt / "engine", WORKFLOW, order)
        send(in_doubt / "engine", WORKFLOW, order)  # the same order, sent twice by a nervous network
    process = start(in_doubt)
    try:
        until_asked(in_doubt, process, "ask watch")
        # The go for `watch` came before its question; it was told as ignored, and has to be given again.
        send(in_doubt / "engine", WORKFLOW, go("watch", 7))
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert said.splitlines()[-1] == "SUCCESS []"
    counted = Counter(effects(in_doubt))
    assert counted["step migrate 1"] == counted["step watch 1"] == 1
    assert counted["decided migrate"] == counted["decided watch"] == 1
    assert counted["order migrate"] == 1  # the twice-sent order was one


def test_a_course_that_was_gone_on_with_a_thousand_times_still_goes_on(tmp_path: Path) -> None:
    """A conductor under a service manager is started again each second while a person is awaited, or a disk is full."""
    assert conduct(tmp_path, "step:migrate:before")[0] == -signal.SIGKILL
    with sqlite3.connect(tmp_path / "engine" / "engine.sqlite") as database:
        database.execute("update workflow_status set recovery_attempts = 1000")
    assert conduct(tmp_path) == (0, "SUCCESS []")
    assert effects(tmp_path) == WHOLE
