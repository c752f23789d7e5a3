"""Orders from another terminal, signals, and questions: while a launch is carried out by the real commands."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from scene import Scene, blocked, patient, processes, waits_for_the_lock
from stage import Stage

from safepoint.errors import Refused
from safepoint.launch.begin import begun_plan
from safepoint.launch.conductor import Conductor, make_order
from safepoint.launch.faults import VARIABLE
from safepoint.launch.plan import make_plan


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, make_quick: Callable[..., Stage]) -> Iterator[Scene]:
    with make_quick(tmp_path_factory.mktemp("orders") / "stage", lines=500) as stage:
        scene = Scene(stage)
        try:
            yield scene
        finally:
            scene.close()


def by_person(text: str) -> str:
    """A person says when the window begins."""
    return text + '\n[gates]\nstop = "person"\n'


def watched(text: str) -> str:
    """The site is watched for a while after the launch."""
    return text.replace('duration = "0s"', 'duration = "1500ms"')


def slow_start(text: str) -> str:
    """Release 1.0 takes a second to start."""
    head, tail = text.split("[releases.new]")
    head = head.replace('start = ["python", ', 'start = ["sh", "-c", "sleep 1; exec python \\"$@\\"", "sh", ')
    return f"{head}[releases.new]{tail}"


def test_hold_stops_before_the_next_step_and_an_abort_before_the_window_touches_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.new_launch(patient)
    live = scene.conduct("launch", "--now")
    live.until("step.begun")
    assert (early := scene.run("go", "--json")).code == 3
    assert "No gate is open" in early.json()["message"]
    assert scene.run("hold").code == 0
    live.until("ask")
    standing = scene.status()
    assert standing["launch"]["status"] == "waiting"
    assert standing["conductor"]["pid"] == live.process.pid
    assert [choice["command"].split()[1] for choice in standing["standing"]["commands"]] == ["go", "abort"]
    assert scene.run("go").code == 0
    live.until("order")
    deadline = time.monotonic() + 10
    while not [e for e in scene.entries if e.kind == "order" and e.data["order"] == "go"]:
        assert time.monotonic() < deadline
        time.sleep(0.03)
    assert scene.run("go").code == 3
    assert scene.run("abort").code == 0
    ended = live.end()
    assert ended.code == 5, ended.text
    assert "1.0 serves everyone" in ended.text
    assert scene.status()["launch"]["status"] == "aborted"
    assert "stop-traffic" not in scene.done()
    assert scene.release() == "1.0"
    assert scene.left() == []
    assert (again := scene.run("abort", "--json")).code == 3
    assert "over already" in again.json()["message"]
    assert (typed := scene.run("launch", "--now", "--json")).code == 3  # the last command, typed once more
    assert "--again" in typed.json()["remedy"]
    _nothing_begins_that_was_read_before_its_end(scene, monkeypatch)


def _nothing_begins_that_was_read_before_its_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looked while it was under way comes to the lock when it is over: a launch began anew, by no order."""
    for name, value in scene.stage.environment.items():
        monkeypatch.setenv(name, value)
    the_plan, known = begun_plan(scene.stage.plan), len(scene.entries)
    assert the_plan is not None
    with Conductor(scene.stage.plan, the_plan, tell=lambda _step, _progress: None, listeners=()) as conductor:
        with pytest.raises(Refused, match="was aborted"):
            conductor.launch()
        for word, told in (("rollback", "over already"), ("return", "No rollback is under way")):
            with pytest.raises(Refused, match=told):
                conductor.rollback(make_order(word))
    assert len(scene.entries) == known


@pytest.mark.slow
def test_a_retry_that_is_refused_again_ends_like_the_launch_that_was(scene: Scene) -> None:
    scene.new_launch(lambda text: text.replace('"ACCOUNTING_DEMO_PASSWORD"', '"NOBODY_SET_THIS"'))
    assert scene.run("launch", "--now", "--plain").code == 3
    retried = scene.run("retry", "--plain")
    assert retried.code == 3, retried.text
    assert "NOBODY_SET_THIS" in retried.text and "next:" in retried.text
    answered = scene.run("retry", "--json")
    assert answered.code == 3, answered.text
    answer = answered.json()
    assert (answer["launch"], answer["status"]) == (scene.stage.plan.launch_id, "failed")
    assert "NOBODY_SET_THIS" in answer["reason"]
    assert scene.left() == []


def test_an_abort_during_the_migration_ends_it_and_undoes_everything(scene: Scene) -> None:
    scene.new_launch(patient)
    assert scene.run("launch", "--now", "--plain", env={VARIABLE: "prove-quiet:recorded"}).code == -signal.SIGKILL
    orphaned = scene.status()
    assert orphaned["conductor"] is None
    assert "safepoint launch" in orphaned["standing"]["next"]
    with blocked(scene):
        live = scene.conduct("launch", "--now")
        live.until("step.begun", "migrate")
        waits_for_the_lock(scene)
        assert scene.processes("manage.py")
        assert scene.status()["running"][0]["id"] == "migrate"
        assert scene.run("abort").code == 0
        begun = time.monotonic()
        ended = live.end()
    assert ended.code == 5, ended.text
    assert time.monotonic() - begun < 20
    assert scene.status()["launch"]["status"] == "rolled back"
    assert scene.release() == "1.0"
    assert scene.left() == []


@pytest.mark.slow
def test_questions_signals_and_orders_from_all_sides_leave_one_launch_and_one_rollback(scene: Scene) -> None:
    """One launch after the other is what takes time here, so this is one launch with all that may come over it."""
    scene.new_launch(lambda text: watched(slow_start(by_person(patient(text)))))
    with command_lines() as seen:
        _waits_at_a_persons_gate(scene)
        told = [_goes_on_by_one_go_and_dies(scene), _left_by_sigint_in_the_migration(scene)]
        told += [_left_by_sigterm_while_watching(scene)]
        ended = scene.run("launch", "--plain")
        assert ended.code == 0, ended.text
        _launched_once(scene)
        told += [ended.text, _rolled_back_once(scene)]
    assert any("pg_dump" in argv for argv in seen)
    assert any("manage.py migrate" in argv for argv in seen)
    _holds_no_secret(scene, [*seen, *told])


def _waits_at_a_persons_gate(scene: Scene) -> None:
    left = scene.run("launch", "--now", "--plain", "--no-wait")
    assert left.code == 4, left.text
    assert "safepoint go" in left.text.split("next:")[-1]
    standing = scene.status()
    assert standing["conductor"] is None
    assert standing["question"]["step"] == "gate-stop"
    assert "safepoint go" in standing["standing"]["next"]
    again = scene.run("launch", "--no-wait", "--json")
    assert again.code == 4, again.text
    assert again.json()["question"]["step"] == "gate-stop"


def _goes_on_by_one_go_and_dies(scene: Scene) -> str:
    live = scene.conduct("launch", env={VARIABLE: "prove-quiet:recorded"})
    live.until("resumed")
    waiting = scene.status()
    assert waiting["conductor"]["pid"] == live.process.pid
    assert waiting["launch"]["status"] == "waiting"
    assert scene.run("go", "gate-green").code == 3
    assert scene.run("retry").code == 3
    assert scene.run("go", "gate-stop").code == 0
    live.until("decided", "gate-stop")
    assert scene.run("go").code == 3
    died = live.end()
    assert died.code == -signal.SIGKILL, died.text
    assert sum(entry.kind == "decided" for entry in scene.entries) == 1
    return died.text


def _left_by_sigint_in_the_migration(scene: Scene) -> str:
    with blocked(scene):
        live = scene.conduct("launch")
        live.until("step.begun", "migrate")
        waits_for_the_lock(scene)
        live.process.send_signal(signal.SIGINT)
        left = live.end()
    assert left.code == 130, left.text
    assert "Nobody: the site has been closed" in left.text
    assert "`safepoint launch" in left.text.split("next:")[-1]
    assert scene.processes("manage.py") == []
    standing = scene.status()
    assert standing["conductor"] is None
    assert standing["launch"]["status"] == "running"
    assert "safepoint launch" in standing["standing"]["next"]
    return left.text


def _left_by_sigterm_while_watching(scene: Scene) -> str:
    live = scene.conduct("launch")
    live.until("step.begun", "watch")
    live.process.send_signal(signal.SIGTERM)
    left = live.end()
    assert left.code == 130, left.text
    assert "2.0 serves everyone" in left.text
    return left.text


def _launched_once(scene: Scene) -> None:
    steps = Counter(step.id for step in make_plan(scene.stage.plan).steps)
    assert steps - scene.done() == Counter({"gate-stop": 1})  # a person decided it
    assert scene.done() - steps == Counter()
    assert scene.release() == "2.0"
    assert scene.status()["launch"]["status"] == "launched"
    twice = scene.stage.query("SELECT app, name FROM django_migrations GROUP BY 1, 2 HAVING count(*) > 1")
    assert twice == []
    for word in ("launch", "abort", "hold", "go", "retry"):
        refused = scene.run(word, "--json")
        assert (word, refused.code) == (word, 3)
        assert refused.json()["remedy"]


def _rolled_back_once(scene: Scene) -> str:
    # Another terminal may have another environment: whom the server refuses closes no site.
    refused = scene.run("rollback", "--json", env={"SAFEPOINT_DB_PASSWORD": "not-the-password"})
    assert (refused.code, scene.release()) == (1, "2.0"), refused.text
    assert "Nothing was done" in refused.json()["message"] and "password_env" in refused.json()["remedy"]
    with pytest.MonkeyPatch.context() as patch:  # the environment of `scene.run` is this one with the stage's over it
        patch.delitem(scene.stage.environment, "SECRET_KEY")
        refused = scene.run("rollback", "--json")
    assert (refused.code, scene.release()) == (3, "2.0"), refused.text
    assert refused.json()["message"].startswith("SECRET_KEY: ")
    back = scene.conduct("rollback")
    back.until("step.begun", "back-start-old")
    assert scene.status()["launch"]["status"] == "rolling back"
    second = scene.run("rollback", "--json")
    assert second.code == 3
    assert "being taken already" in second.json()["message"]
    ended = back.end()
    assert ended.code == 0, ended.text
    assert max(scene.done().values()) == 1
    assert scene.release() == "1.0"
    assert scene.left() == []
    for word in ("launch", "rollback", "abort"):
        assert scene.run(word, "--json").code == 3
    assert scene.status()["launch"]["status"] == "rolled back"
    return ended.text


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """All command lines that any process of this machine has meanwhile, looked at a hundred times a second."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.update(command_line for command_line, _ in processes(environments=False))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def _holds_no_secret(scene: Scene, told: list[str]) -> None:
    stage = scene.stage
    secrets = [stage.environment[name] for name in ("SAFEPOINT_DB_PASSWORD", "ACCOUNTING_DEMO_PASSWORD", "SECRET_KEY")]
    secrets.append(str(urlsplit(stage.environment["DATABASE_URL"]).password))
    assert scene.run("report").code == 0
    told += [scene.run("report", "--json").text, scene.run("status").text, scene.run("doctor", "--json").text]
    files = [path for path in stage.plan.state.rglob("*") if path.is_file()]
    assert {"ledger.jsonl", "engine.sqlite", "report.html", "globals.sql"} <= {path.name for path in files}
    for secret in secrets:
        assert not [text for text in told if secret in text]
        assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []


def test_a_launch_can_be_moved_with_at_and_is_found_by_status_and_the_orders(scene: Scene) -> None:
    scene.new_launch()
    live = scene.conduct("launch", "--at", "2031-05-05 10:00")
    live.until("run")
    deadline = time.monotonic() + 10
    while (standing := scene.status())["next"] is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert standing["next"]["at"].startswith("2031-05-04T19:00:00")
    refused = scene.run("launch", "--at", "2031-05-06 10:00", "--json")
    assert refused.code == 3
    assert scene.run("abort").code == 0
    assert live.end().code == 5
