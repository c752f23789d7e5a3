"""An order in the first moment of a launch, when its conductor has the lock and has written nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from least_plan import LEAST

from safepoint.cli.launch import refuse_without_launch
from safepoint.config import load
from safepoint.errors import Refused
from safepoint.launch.lock import ConductorLock


def test_it_is_asked_for_again_and_not_sent_to_another_machine(tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_text(LEAST)
    plan = load(path)
    with (
        ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"),
        pytest.raises(Refused, match="is just beginning") as refused,
    ):
        refuse_without_launch(plan)
    assert "in a moment" in str(refused.value.remedy)
