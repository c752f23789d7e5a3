"""A stand-in that comes back behind the fence is a doubt, whether closing had still seen it or not. Pure."""

from __future__ import annotations

from safepoint.launch.rehearsal.fence_findings import judge_fence
from safepoint.wayback.fence.fence import FenceFacts, FencePrior, FenceState
from safepoint.wayback.fence.stand_in import Stood

HOLDS = FenceState(True, (), (), ())
QUIET = FenceFacts("shop", (), 2, (), "2026-03-01 09:00:00+00", 0.5, ())
PRIOR = FencePrior("shop", 1, None, (), ())


def test_one_that_comes_back_seldom_is_told_too() -> None:
    """Between two of its tries the fence looked three times, and saw nobody."""
    stood = Stood("shop", wrote=5, held=False, got_in=2, read_only=2)
    found = judge_fence(PRIOR, QUIET, HOLDS, [stood], [])
    assert found.verdict == "warning" and "Sessions of shop keep coming back" in found.summary
    out = Stood("shop", wrote=5, held=False, refused=9, refusal="not permitted to log in")
    assert judge_fence(PRIOR, QUIET, HOLDS, [out], []).verdict == "pass"
