"""`safepoint go GATE`: a gate has the plan file's name for it, too."""

from __future__ import annotations

from safepoint.cli.orders import names


def test_a_gate_is_named_as_the_plan_file_does_or_by_its_step() -> None:
    assert names("stop", "gate-stop") and names("gate-stop", "gate-stop")
    assert not names("green", "gate-stop")
    assert names("canary", "canary"), "the step may ask, too"
    assert not names("gate-canary", "canary")
