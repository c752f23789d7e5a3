"""Conductors killed at random instants, again and again, under traffic: `make chaos`.

The seed is printed, so that a run that found something can be made again: SAFEPOINT_CHAOS_SEED, SAFEPOINT_CHAOS_RUNS.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stage import Stage

from safepoint.launch.begin import entries_of, status_of

RUNS = int(os.environ.get("SAFEPOINT_CHAOS_RUNS", "20"))
SEED = int(os.environ.get("SAFEPOINT_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SAFEPOINT = str(Path(sys.executable).parent / "safepoint")

pytestmark = pytest.mark.slow


def brisk(text: str) -> str:
    """The demo's plan with an HTTP login and short times."""
    text = text.replace('hold = "1s"', 'hold = "200ms"').replace('duration = "2s"', 'duration = "200ms"')
    return text.replace("[checkpoints.login]", '[checkpoints.login]\nbrowser = "http"')


def killed_at_random(stage: Stage, draw: random.Random, *words: str) -> int:
    """Run a command to its end through conductors that are killed at random instants; how many died."""
    deaths = 0
    while True:
        process = subprocess.Popen(
            [SAFEPOINT, *words, "--plain", "--plan", str(stage.plan_path)],
            env={**os.environ, **stage.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = process.communicate(timeout=draw.uniform(0.8, 4.5) if deaths < 12 else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            deaths += 1
            continue
        # Killed after the end was written down: the next one is told that it is over.
        assert process.returncode == 0 or (deaths and "is over" in said), said
        return deaths


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("run", range(RUNS))
def test_no_acknowledged_entry_is_lost_unlisted_whenever_conductors_die(run: int, tmp_path: Path) -> None:
    draw = random.Random(SEED + run)  # the instants of kills, not secrets
    print(f"SAFEPOINT_CHAOS_SEED={SEED + run} SAFEPOINT_CHAOS_RUNS=1")
    with Stage(tmp_path / "stage", lines=2_000, change=brisk) as stage:
        writers = stage.writers(count=3, rate=10)
        died = killed_at_random(stage, draw, "launch", "--now")
        assert status_of(entries_of(stage.plan)) == "launched"
        time.sleep(1)
        died += killed_at_random(stage, draw, "rollback")
        time.sleep(0.5)
        tally = writers.stop()
        print(f"{died} conductors died; {tally.acknowledged} entries acknowledged")
        entries = entries_of(stage.plan)
        assert status_of(entries) == "rolled back"
        missing = stage.acknowledged() - stage.present()
        assert missing <= stage.listed()
        unbalanced = stage.query(
            "SELECT entry_id FROM ledger_journalline GROUP BY entry_id HAVING sum(debit) <> sum(credit)"
        )
        assert unbalanced == []
        doubled = stage.query("SELECT reference FROM ledger_journalentry GROUP BY 1 HAVING count(*) > 1")
        assert doubled == []
