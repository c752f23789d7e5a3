"""A standby takes the server's place between a launch and its rollback."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from scene import brisk, evidence, slots_and_roles_left
from stage import Stage
from streaming_standby import promote, streaming, until


@pytest.mark.slow
@pytest.mark.parametrize("major", [17, 18])
def test_a_failover_after_the_launch_costs_a_rollback_nothing(make_stage: Callable[..., Stage], major: int) -> None:
    stage = make_stage(lines=5_000, change=brisk, major=major, settings={"hot_standby_feedback": "on"})
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert evidence(stage, "arm")["mode"] == "logical"
    with streaming(stage.server) as standby:
        until(lambda: standby.synchronised(lambda: stage.safepoint("follow", "--once", capture=True)), patience=120)
        tally = writers.stop()  # what was written last is in nobody's spool yet
        standby.received()
        standby.stop()
        promote(stage.server, standby.folder)
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert stage.acknowledged() - stage.present() == set()
    rollback = json.loads(stage.safepoint("report", "--json", capture=True).stdout)["rollback"]
    assert rollback["carried"] >= tally.by_release["2.0"] > 0
    assert rollback["listed"] == 0
    assert slots_and_roles_left(stage) == ([], [])
