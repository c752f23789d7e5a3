"""The server's own log is watched beside the application's, where the plan file names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scene import brisk, evidence
from stage import Stage


@pytest.mark.slow
def test_what_postgresql_logs_of_a_crash_stops_the_launch_at_the_next_look(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=lambda text: f'{brisk(text)}\n[gates]\ncanary = "person"\n')
    log = Path(str(stage.plan.database.error_log))
    waits = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert waits.returncode == 4, waits.stdout + waits.stderr
    looked = {one["name"]: one["verdict"] for one in evidence(stage, "checkpoints")["checkpoints"]}
    assert looked["database-errors"] == looked["errors"] == "pass"  # what the fence ended is in the log, too

    with log.open("a") as file:
        file.write("2026-03-01 09:20:00 UTC [7] LOG:  server process (PID 8) was terminated by signal 9: Killed\n")
    assert stage.safepoint("go", capture=True).returncode == 0
    asked = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert asked.returncode == 4, asked.stdout + asked.stderr
    assert "The database's error log: fail" in asked.stdout and "was terminated by signal 9" in asked.stdout
    assert stage.safepoint("rollback", "--plain", capture=True).returncode == 0
