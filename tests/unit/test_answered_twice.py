"""An answer that was given twice answers one question: the next one nobody had read when it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from memory_durable import Memory, Stuck, World, order, step

from safepoint.launch import course

PLAN = (step("gate-stop", "stop", gate=True), step("checkpoints"), step("watch"))


def carry_out(verdicts: Mapping[str, Sequence[str]], *orders: tuple[str, str, Any], back: bool = False) -> World:
    """Until a person is awaited who gives no order any more, or until the end."""
    world = World(PLAN, verdicts, orders)
    try:
        course.back(Memory(world), 1, "abort", "grace") if back else course.launch(Memory(world), 1)
    except Stuck:
        world.done.append(("waits",))
    return world


def test_a_retry_that_was_written_down_twice_is_one_attempt() -> None:
    given = ("ask", "checkpoints", order("retry", gate="checkpoints", attempt=1))
    world = carry_out({"checkpoints": ["fail", "fail"]}, given, given)
    assert world.attempts["checkpoints"] == 2
    assert [one[3] for one in world.done if one[0] == "order"] == ["taken", course._EARLIER]
    assert world.done[-1] == ("waits",)


def test_a_go_to_a_held_launch_says_no_go_to_the_gate_behind_it() -> None:
    hold, go = order("hold"), order("go", gate="gate-stop", attempt=0)
    given = (("remaining", "gate-stop", hold), ("ask", "gate-stop", go), ("step", "gate-stop", go))
    world = carry_out({"gate-stop": ["inconclusive"]}, *given)
    assert world.done[-1] == ("waits",) and "decided" not in [one[0] for one in world.done]


@pytest.mark.parametrize("word", ["retry", "rollback"])
def test_on_the_way_back_as_well(word: str) -> None:
    given = ("ask", "back-swap", order(word, gate="back-swap", attempt=1))
    world = carry_out({"back-swap": ["fail", "fail"]}, given, given, back=True)
    assert world.attempts["back-swap"] == 2 and world.done[-1] == ("waits",)


def test_a_person_who_wants_out_is_heard_whatever_was_asked() -> None:
    given = ("ask", "checkpoints", order("abort", gate="gate-stop", attempt=1))
    world = carry_out({"checkpoints": ["fail"]}, given)
    assert ("way back", "abort ordered by grace@laptop") in world.done


def test_orders_of_a_former_version_name_no_question() -> None:
    world = carry_out({"checkpoints": ["fail", "fail"]}, *[("ask", "checkpoints", order("retry"))] * 2)
    assert world.attempts["checkpoints"] == 3
