"""The way back of schemas that nobody thought of: `make chaos` plays hundreds of them, `make test` a few.

SAFEPOINT_CHAOS_SEED is the first seed, SAFEPOINT_ODD_RUNS how many follow it; with SAFEPOINT_ODD_SHOWN all that is done
is printed.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from odd_replays import SKIPPED, Play
from postgres_servers import Servers, has_postgres

from safepoint.postgres.binaries import installation

RUNS = int(os.environ.get("SAFEPOINT_ODD_RUNS", "300"))
SEED = int(os.environ.get("SAFEPOINT_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SHOWN = bool(os.environ.get("SAFEPOINT_ODD_SHOWN"))


def play(servers: Servers, major: int, folder: Path, seeds: range) -> Counter[str]:
    """All of them, asserted one by one; those that went wrong are told together, with how to play each again."""
    tally: Counter[str] = Counter()
    wrong = {}
    for seed in seeds:
        (folder / str(seed)).mkdir()
        try:
            Play(servers(major), installation(major), seed, folder / str(seed), SHOWN).run(tally)
        except Exception as error:  # the others are to be played too
            wrong[f"SAFEPOINT_CHAOS_SEED={seed} SAFEPOINT_ODD_RUNS=1"] = f"{type(error).__name__}: {error}"
            print(f"{seed} went wrong: {error}"[:2000], flush=True)
    assert not wrong, "\n\n".join(f"{seed}: {said[:2000]}" for seed, said in wrong.items())
    return tally


@pytest.mark.parametrize(("major", "seeds"), [(15, range(1, 2)), (18, range(21, 22))])
def test_a_few(servers: Servers, tmp_path: Path, major: int, seeds: range) -> None:
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not here")
    tally = play(servers, major, tmp_path, seeds)
    assert sum(count for said, count in tally.items() if said.startswith(SKIPPED)) < len(seeds) / 2
    assert tally["written"] > 10 * len(seeds)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("major", [15, 17, 18])
def test_many(servers: Servers, tmp_path: Path, major: int) -> None:
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not here")
    print(f"SAFEPOINT_CHAOS_SEED={SEED}", flush=True)
    tally = play(servers, major, tmp_path, range(SEED, SEED + RUNS))
    print("\n".join(f"{count:7,} {said}" for said, count in sorted(tally.items())))
