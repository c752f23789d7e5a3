"""The window's capture could not be armed, though the gate had foreseen one: a person is asked before anybody is in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from books import LAUNCH, Books

from safepoint.errors import NeedsPerson
from safepoint.launch.verbs.migrate import Arm
from safepoint.wayback.capture.capture import CaptureFacts, disarm
from safepoint.wayback.mapping.mapping import WayBack


class Stand:
    """As much of a launch as arming goes by."""

    def __init__(self, site: Books, *, proven: bool, waived: bool) -> None:
        self.target, self.launch_id, self.step = site.application, LAUNCH, SimpleNamespace(id="arm")
        waiver = SimpleNamespace(by="Ada Stone", reason="nobody writes", release="2.0") if waived else None
        wayback = SimpleNamespace(capture="logical", waived=lambda _release: waiver)
        releases = SimpleNamespace(new=SimpleNamespace(version="2.0"))
        self.plan = SimpleNamespace(wayback=wayback, releases=releases)
        self.proof, self.recorded = {"proven": proven, "mapping": WayBack(()).as_json()}, dict[str, Any]()

    def fact(self, _name: str) -> dict[str, Any]:
        return self.proof

    def record(self, name: str, data: dict[str, Any]) -> None:
        self.recorded[name] = data


def test_without_a_capture_nobody_is_let_in_unless_a_person_says_so(one_site: Books) -> None:
    """The login may not replicate, and the plan has no triggers."""
    stand = Stand(one_site, proven=True, waived=False)
    with pytest.raises(NeedsPerson, match="would carry nothing") as asked:
        Arm().apply(stand)  # type: ignore[arg-type]
    assert "REPLICATION" in asked.value.message and stand.recorded == {}  # so that the next try is not answered by it


@pytest.mark.parametrize(("proven", "waived"), [(True, True), (False, False)])
def test_where_nothing_would_be_carried_anyway_or_that_was_accepted_the_launch_goes_on(
    one_site: Books, proven: bool, waived: bool
) -> None:
    stand = Stand(one_site, proven=proven, waived=waived)
    assert "no capture" in Arm().apply(stand).summary  # type: ignore[arg-type]
    disarm(one_site.application, CaptureFacts.from_json(stand.recorded["capture"]))
