"""After a launch: a follower whose terminal has gone, a conductor of another version, a rollback from a bare shell."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from scene import POST, SAFEPOINT, brisk, evidence, release_that_answers
from stage import Stage

from safepoint.wayback.capture.spool import MAGIC


@contextmanager
def in_a_terminal_that_goes(stage: Stage, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A follower begun in a terminal, which is closed once it follows."""
    near, far = pty.openpty()
    command = [SAFEPOINT, *words, "--plan", str(stage.plan_path)]
    env = {**os.environ, **stage.environment}
    process = subprocess.Popen(command, env=env, stdin=far, stdout=far, stderr=far, start_new_session=True)
    os.close(far)
    try:
        spool = stage.launch_folder / "spool"
        before = spool.stat().st_size
        post(stage)
        assert grows(spool, before) and process.poll() is None, os.read(near, 10_000)
        os.close(near)
        process.send_signal(signal.SIGHUP)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def post(stage: Stage) -> None:
    with psycopg.connect(**stage.server.target.on("accounting").conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(POST.encode())


def grows(path: Path, size: int, seconds: float = 40.0) -> bool:
    deadline = time.monotonic() + seconds
    while path.stat().st_size <= size and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.stat().st_size > size


@pytest.mark.slow
def test_a_follower_outlives_its_terminal_and_another_version_closes_no_site(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=brisk)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    spool = stage.launch_folder / "spool"
    with in_a_terminal_that_goes(stage, "follow") as follower:
        for _ in range(2):
            before = spool.stat().st_size
            post(stage)
            assert grows(spool, before) and follower.poll() is None
        follower.terminate()
        assert follower.wait(20) == 0
    # Safepoint was replaced by another version since: half-way it would find that it cannot read what was captured.
    written = spool.read_bytes()
    spool.write_bytes(b"SPOOL-1\n" + written[len(MAGIC) :])
    ledger = (stage.launch_folder / "ledger.jsonl").read_bytes()
    refused = stage.safepoint("rollback", "--plain", capture=True)
    assert refused.returncode == 3 and "Another version of Safepoint began" in refused.stderr, refused.stderr
    assert "0.1.0, as its ledger says" in refused.stderr and release_that_answers(stage) == "2.0"
    assert (stage.launch_folder / "ledger.jsonl").read_bytes() == ledger
    spool.write_bytes(written)
    done = stage.safepoint("rollback", "--plain", capture=True)
    assert done.returncode == 0 and release_that_answers(stage) == "1.0", done.stdout + done.stderr
    assert evidence(stage, "back-list")["transactions"] >= 3, evidence(stage, "back-list")
