"""Both captures, batches and kills lead to one truth: `make chaos` plays hundreds of worlds, `make test` a few.

SAFEPOINT_CHAOS_SEED is the first seed, SAFEPOINT_ODD_RUNS how many follow it; with SAFEPOINT_ODD_SHOWN all that is done
is printed.
"""

from __future__ import annotations

import os
import random
import traceback
from collections import Counter
from pathlib import Path

import pytest
from postgres_servers import Servers, has_postgres
from twofold_plays import NoWorld, Play

RUNS = int(os.environ.get("SAFEPOINT_ODD_RUNS", "300"))
SEED = int(os.environ.get("SAFEPOINT_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SHOWN = bool(os.environ.get("SAFEPOINT_ODD_SHOWN"))


def play(servers: Servers, major: int, folder: Path, seeds: range) -> Counter[str]:
    """All of them, asserted one by one; those that went wrong are told together, with how to play each again."""
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not here")
    tally, wrong = Counter[str](), {}
    for seed in seeds:
        (folder / str(seed)).mkdir()
        one = Play(servers(major), seed, folder / str(seed), SHOWN)
        try:
            one.run()
        except NoWorld as refused:
            tally[f"no world: {refused}"[:80]] += 1
        except Exception as error:  # the others are to be played too
            wrong[f"SAFEPOINT_CHAOS_SEED={seed} SAFEPOINT_ODD_RUNS=1"] = f"{type(error).__name__}: {error}"
            print(f"{seed} went wrong: {error}"[:2000], flush=True)
            if SHOWN:
                traceback.print_exc()
        tally.update(one.tally)
    assert not wrong, "\n\n".join(f"{seed}: {said[:2000]}" for seed, said in wrong.items())
    return tally


@pytest.mark.parametrize(("major", "seeds"), [(15, range(2, 3)), (18, range(21, 22))])
def test_a_few_entangled_worlds(servers: Servers, tmp_path: Path, major: int, seeds: range) -> None:
    tally = play(servers, major, tmp_path, seeds)
    assert tally["rows compared"] > 0 and tally["commit"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("major", [15, 17, 18])
def test_many_entangled_worlds(servers: Servers, tmp_path: Path, major: int) -> None:
    print(f"SAFEPOINT_CHAOS_SEED={SEED}", flush=True)
    tally = play(servers, major, tmp_path, range(SEED, SEED + RUNS))
    print("\n".join(f"{count:7,} {said}" for said, count in sorted(tally.items())))
