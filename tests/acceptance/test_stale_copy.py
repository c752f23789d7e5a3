"""A second operator takes over from another machine, with a copy of the state folder that is older than the launch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from scene import POST, SAFEPOINT, Said, Scene, kill_at
from stage import Stage

from safepoint.config import load
from safepoint.launch.begin import entries_of, launch_folder, open_question
from safepoint.wayback.names import PREFIX


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, make_quick: Callable[..., Stage]) -> Iterator[Scene]:
    with make_quick(tmp_path_factory.mktemp("copies") / "stage", lines=500) as stage:
        scene = Scene(stage, proven=True)
        try:
            yield scene
        finally:
            scene.close()


class Second:
    """The other machine: the same plan, and the state as it was copied."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        folder = scene.stage.folder
        self.state = folder / "other-state"
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(folder / "state", self.state, ignore=shutil.ignore_patterns("scratch"))
        self.plan = folder / "second.toml"
        text = scene.stage.plan_path.read_text()
        self.plan.write_text(text.replace(f'state = "{folder}/state"', f'state = "{self.state}"'))
        assert self.plan.read_text() != text

    def run(self, *words: str) -> Said:
        stage = self.scene.stage
        done = forked.safepoint([*words, "--plan", str(self.plan)], stage.environment, stage.folder / "second.log")
        return Said(done.returncode, done.stdout)

    def conduct(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SAFEPOINT, *words, "--plain", "--plan", str(self.plan)],
            env={**os.environ, **self.scene.stage.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def launch_folder(self) -> Path:
        return launch_folder(load(self.plan))

    def question(self, conductor: subprocess.Popen[str], seconds: float = 40.0) -> dict[str, Any]:
        """What its conductor asks."""
        deadline = time.monotonic() + seconds
        while (found := open_question(entries_of(load(self.plan)))) is None:
            assert conductor.poll() is None, conductor.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found


def post(scene: Scene) -> None:
    scene.stage.query(f"{POST} RETURNING id")


def entries(scene: Scene) -> int:
    return int(scene.stage.query("SELECT count(*) FROM ledger_journalentry")[0][0])


@pytest.mark.slow
def test_a_rollback_from_an_older_copy_asks_for_what_was_captured_elsewhere_and_loses_nothing(scene: Scene) -> None:
    scene.new_launch()
    launched = scene.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    second = Second(scene)
    post(scene)
    followed = scene.run("follow", "--once")
    assert followed.code == 0 and "1 transactions spooled" in followed.text
    post(scene)
    written = entries(scene)

    back = second.conduct("rollback")
    question = second.question(back)
    assert question["step"] == "back-ahead" and "read into another spool" in question["question"]
    assert scene.release() == "2.0"  # asked while the site is open
    for name in ("spool", "spool.pos"):
        shutil.copy(scene.stage.launch_folder / name, second.launch_folder / name)
    assert second.run("retry").code == 0
    said = back.communicate(timeout=60)[0]
    assert back.returncode == 0, said
    assert "Nobody is affected" in said and entries(scene) == written and scene.release() == "1.0"


@pytest.mark.slow
def test_a_ledger_by_which_nobody_may_write_takes_nothing_back_from_people_who_do(scene: Scene) -> None:
    """Copied in the window, when the migration had run; the launch was finished from where it began."""
    scene.new_launch()
    kill_at(scene.stage, "arm:recorded", "launch", "--now")
    second = Second(scene)
    launched = scene.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    post(scene)
    written = entries(scene)
    for word in ("rollback", "abort", "launch"):
        refused = second.run(word, "--plain")
        assert refused.code == 3 and "this ledger does not know of it" in refused.text, refused.text
        assert scene.release() == "2.0"
    back = scene.run("rollback", "--plain")
    assert back.code == 0 and entries(scene) == written, back.text


@pytest.mark.slow
def test_a_conductor_that_slept_while_another_finished_the_launch_takes_nothing_back(scene: Scene) -> None:
    scene.new_launch()
    first = scene.conduct("launch", "--now", "--no-wait")
    first.until("step.begun", "migrate", seconds=120)
    first.process.send_signal(signal.SIGSTOP)
    second = Second(scene)
    # The server gives its sessions up: nobody answers there.
    mine = f"application_name LIKE 'safepoint%' OR usename LIKE '{PREFIX}%'"
    scene.ask(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {mine}")
    launched = second.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    post(scene)
    written = entries(scene)
    first.process.send_signal(signal.SIGCONT)
    said = first.end()
    assert said.code == 3 and "gone on with" in said.text, said.text
    assert scene.release() == "2.0" and entries(scene) == written
    back = second.run("rollback", "--plain")
    assert back.code == 0 and entries(scene) == written, back.text


@pytest.mark.slow
def test_a_rollback_without_its_twin_is_told_so_before_it_closes_the_site(scene: Scene) -> None:
    """Another machine has retired the launch. The last test of this site, which stays at 2.0."""
    scene.new_launch()
    launched = scene.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    assert Second(scene).run("retire", "--now").code == 0
    back = scene.conduct("rollback")
    asked = back.until("ask")
    assert asked.step == "back-ahead", asked.data
    assert "is gone, and without it there is no way back" in asked.data["question"]
    assert scene.release() == "2.0"
    assert scene.run("return").code == 0
    said = back.end().text
    assert "stop-traffic" not in said and "launched: return ordered by" in said, said
    assert scene.release() == "2.0"
