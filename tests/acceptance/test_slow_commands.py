"""Releases whose commands take their time: an order to start waits for the one to stop, and the reverse."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from scene import Scene, kill_at
from stage import Stage

from safepoint.launch.conductor import make_order
from safepoint.launch.engine import send
from safepoint.launch.heeding import interrupt

SUBSCRIPTION = """
CREATE SUBSCRIPTION other CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE);
ALTER SUBSCRIPTION other SET (slot_name = 'nowhere');
ALTER SUBSCRIPTION other ENABLE
"""
FORGOTTEN = """
ALTER SUBSCRIPTION other DISABLE;
ALTER SUBSCRIPTION other SET (slot_name = NONE);
DROP SUBSCRIPTION other
"""
LONG = 5.0


def slow(release: str, word: str, text: str) -> str:
    """The command `word` of a release does its work only after a while, as one that waits for requests does."""
    head, tail = text.split(f"[releases.{release}]")
    quick = f'{word} = ["python", '
    assert quick in tail
    tail = tail.replace(quick, f'{word} = ["sh", "-c", "sleep {LONG}; exec python \\"$@\\"", "sh", ', 1)
    return f"{head}[releases.{release}]{tail}"


def slow_to_stop(text: str) -> str:
    return slow("old", "stop", text)


def slow_to_turn_round(text: str) -> str:
    return slow("new", "stop", slow("old", "start", text))


@pytest.fixture
def scene(make_stage: Callable[..., Stage]) -> Iterator[Scene]:
    scene = Scene(make_stage(lines=500))
    yield scene
    scene.close()


def change(scene: Scene, queries: str) -> None:
    target = scene.stage.server.target.on("accounting")
    with psycopg.connect(**target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        for query in queries.split(";"):
            connection.execute(query.encode())


def order_at_once(scene: Scene, word: str) -> None:
    """As the command does, without its start."""
    run = max(entry.data["run"] for entry in scene.entries if entry.kind == "run")
    send(scene.stage.launch_folder, f"{scene.stage.plan.launch_id}:{run}", make_order(word))
    interrupt(scene.stage.launch_folder)


def running(scene: Scene, release: str) -> bool:
    """Whether it runs once all commands are over."""
    time.sleep(LONG + 1)
    return bool(scene.processes(f"accounting-{release}-"))


@pytest.mark.slow
def test_a_release_that_is_told_to_stop_and_to_start_ends_as_it_was_told_last(scene: Scene) -> None:
    # What the fence refuses is found while 1.0 is being stopped still, and the launch is taken back at once.
    scene.new_launch(slow_to_stop)
    live = scene.conduct("launch", "--now")
    live.until("step.begun", "ready", 60)
    change(scene, SUBSCRIPTION)
    assert live.end().code == 5
    assert scene.done()["undo-stop-old"] == 1
    assert running(scene, "1.0") and scene.release() == "1.0"
    change(scene, FORGOTTEN)

    # The conductor is killed meanwhile, and the command lives on.
    kill_at(scene.stage, "fence:recorded", "launch", "--again", "--now")
    assert scene.run("abort", "--plain").code == 0
    assert running(scene, "1.0") and scene.release() == "1.0"

    # A rollback stops 2.0 and starts 1.0 beside its steps, and is turned round before either is over.
    scene.new_launch(slow_to_turn_round)
    assert scene.run("launch", "--now", "--plain").code == 0
    live = scene.conduct("rollback")
    live.until("step.begun", "back-ready")
    order_at_once(scene, "return")
    ended = live.end()
    assert scene.done()["forth-open"] == 1, ended.text
    assert running(scene, "2.0") and scene.release() == "2.0"
    assert not scene.processes("accounting-1.0-")

    # The same, and the one who conducts is left meanwhile by Ctrl-C.
    live = scene.conduct("rollback")
    live.until("step.done", "back-ready")
    time.sleep(0.2)
    live.process.send_signal(signal.SIGINT)
    assert live.end().code == 130
    assert scene.run("return", "--plain").code == 0
    assert running(scene, "2.0") and scene.release() == "2.0"
    assert not scene.processes("accounting-1.0-")

    # It stands by now, and no other launch may change the schema below its way back.
    standing = scene.stage.plan.launch_id
    scene.new_launch()
    refused = scene.run("launch", "--now", "--plain")
    assert refused.code == 3 and f"The launch {standing} stands by" in scene.run("doctor", "--json").text
