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
from blows import HIT, KINDS, LINES, MOUNTS, PHASES, Blow, Kind, Play, draw_play, note, phase_of, table

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
def test_every_phase_was_hit_and_every_kind_fell() -> None:
    print("", *LINES, *table(), sep="\n", flush=True)
    hit, fell = {phase for phase, _ in HIT}, {kind for _, kind in HIT}
    missed = [one for one in PHASES if one not in hit] + [one for one in KINDS if one not in fell]
    assert not missed or ENOUGH * len(PHASES) > RUNS


def test_a_hundred_runs_are_drawn_for_every_phase_and_kind() -> None:
    for first in (1, 8001, 123_456):
        plays = [draw_play(seed) for seed in range(first, first + 100)]
        drawn = {blow.kind for play in plays for blow in play.blows}
        assert {kind for kind in KINDS if kind != "disk" or MOUNTS} <= drawn
        assert {phase_of(blow.step) for play in plays for blow in play.blows} >= set(PHASES)
