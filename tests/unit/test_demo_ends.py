"""`make demo`: however it is ended, what it started is stopped, and a slow machine has its time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo"

# A stage that only says when it is left, and on which a launch never ends.
PLAYED = """
import subprocess, sys, time
sys.path.insert(0, {demo!r})
import run

class Stage:
    class plan:
        class router:
            url = "http://here"
    def __init__(self, *words, **settings):
        pass
    def __enter__(self):
        return self
    def __exit__(self, *error):
        print("left")
    def writers(self):
        return None
    def safepoint(self, *words, timeout=300):
        print("asked", words[0], timeout, flush=True)
        time.sleep(60)

run.Stage = Stage
run.play()
"""


@pytest.mark.parametrize(("order", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_demo_that_is_ended_stops_what_it_started_without_a_traceback(order: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PLAYED.format(demo=str(DEMO))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as playing:
        assert playing.stdout is not None and playing.stderr is not None
        line = ""
        while not line.startswith("asked"):
            line = playing.stdout.readline()
            assert line, playing.stderr.read()
        assert line == "asked launch None\n", "a launch on a slow machine was given up after five minutes"
        playing.send_signal(order)
        rest, errors = playing.communicate(timeout=20)
    assert "left" in rest
    assert "Traceback" not in errors
    assert playing.returncode == code
