"""Blows at random instants of every phase, and the books afterwards: `make chaos` makes a hundred, `make test` one.

The seed is printed, so that a run that found something can be made again: SAFEPOINT_CHAOS_SEED, SAFEPOINT_BANK_RUNS.
At the end stands what was hit, phase by phase.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from bank import play_out
from blows import HIT, LINES, PHASES, Blow, Kind, Play, draw_play, note

RUNS = int(os.environ.get("SAFEPOINT_BANK_RUNS", "100"))
SEED = int(os.environ.get("SAFEPOINT_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
ENOUGH = 6
"""Runs for each phase, with which none is missed: one in six falls a step too late."""
# A killed conductor has its tests at every boundary; these two are the blows that it lives through.
SHORT = (
    pytest.param("server", ("back-ahead", "back-carry"), id="server-carrying-back"),
    pytest.param("link", ("migrate",), id="link-migrate", marks=pytest.mark.slow),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "steps"), SHORT)
def test_the_books_balance_after_a_blow(kind: Kind, steps: tuple[str, ...], tmp_path: Path) -> None:
    draw = random.Random()
    play_out(tmp_path, Play("back", "copied", (Blow(kind, draw.choice(steps), draw.uniform(0, 0.4)),)), rate=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("run", range(RUNS))
def test_the_books_balance_whatever_falls_whenever(run: int, tmp_path: Path) -> None:
    seed = SEED + run
    play = draw_play(seed)
    print(f"SAFEPOINT_CHAOS_SEED={seed} SAFEPOINT_BANK_RUNS=1: {play}", flush=True)
    try:
        play_out(tmp_path, play)
    finally:
        note(seed, play)


@pytest.mark.slow
def test_every_phase_was_hit() -> None:
    print("", *LINES, *(f"{phase}: hit {HIT[phase]} times" for phase in PHASES), sep="\n", flush=True)
    missed = [phase for phase in PHASES if not HIT[phase]]
    assert not missed or ENOUGH * len(PHASES) > RUNS
