"""Blows at random instants of every phase, and the books afterwards: `make chaos` makes a hundred, `make test` two.

The seed is printed, so that a run that found something can be made again: SAFEPOINT_CHAOS_SEED, SAFEPOINT_BANK_RUNS.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from bank import AHEAD, BEHIND, FAR, FAR_KINDS, KINDS, LEVEL, Kind, draw_blow, level, play, play_far, same

RUNS = int(os.environ.get("SAFEPOINT_BANK_RUNS", "100"))
SEED = int(os.environ.get("SAFEPOINT_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
# A killed conductor has its tests at every boundary; these two are the blows that it lives through.
SHORT = (
    pytest.param("server", {step: BEHIND[step] for step in ("back-ahead", "back-carry")}, id="server-carrying-back"),
    pytest.param("link", {"migrate": AHEAD["migrate"]}, id="link-migrate", marks=pytest.mark.slow),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "steps"), SHORT)
def test_the_books_balance_after_a_blow(kind: Kind, steps: dict[str, float], tmp_path: Path) -> None:
    play(tmp_path, draw_blow(random.Random(), kind, steps), rate=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", range(RUNS))
def test_the_books_balance_whatever_falls_whenever(run: int, tmp_path: Path) -> None:
    draw = random.Random(str(SEED + run))  # the instants of blows, not secrets; neighbouring numbers draw alike
    twin = draw.choice(("copied", "level", "on another server"))
    steps = {"copied": None, "level": LEVEL, "on another server": FAR}[twin]
    blow = draw_blow(draw, draw.choice(FAR_KINDS if steps is FAR else KINDS), steps)
    print(f"SAFEPOINT_CHAOS_SEED={SEED + run} SAFEPOINT_BANK_RUNS=1: {blow}, a twin {twin}", flush=True)
    if steps is FAR:
        play_far(tmp_path, blow)
    else:
        play(tmp_path, blow, change=level if steps is LEVEL else same)
