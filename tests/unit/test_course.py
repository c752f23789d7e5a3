"""The course of a launch: what every failure, order and crash leads to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_durable import WAY_BACK, Killed, Memory, Stuck, World, order, step

from safepoint.launch import course

PLAN = (
    step("snapshot", "stop"),
    step("gate-stop", "stop", gate=True),
    step("migrate", "undo"),
    step("checkpoints", "ask"),
    step("watch", "ask"),
)
IDS = [one["id"] for one in PLAN]
BACK = [("step", one["id"], "pass") for one in WAY_BACK]


TWICE = (("order", "back-late", order("retry")),)


def carry_out(
    verdicts: Mapping[str, Sequence[str]] | None = None, orders: Sequence[tuple[str, str, Any]] = (), **more: Any
) -> tuple[str, list[tuple[str, ...]]]:
    """Run the launch; answers its status and what was done."""
    world = World(PLAN, verdicts or {}, orders, **more)
    return course.launch(Memory(world), 1), world.done


def steps_in(done: Sequence[tuple[str, ...]]) -> list[str]:
    return [one[1] for one in done if one[0] == "step"]


def fates(done: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(one[2], one[3].split(":")[0]) for one in done if one[0] == "order"]


def test_a_launch_with_nothing_wrong_carries_out_each_step_once_in_order() -> None:
    status, done = carry_out()
    assert status == "launched"
    assert steps_in(done) == IDS
    assert done[-1] == ("end", "launched", "")


def test_a_failure_before_anything_was_touched_ends_the_launch_without_a_way_back() -> None:
    status, done = carry_out({"snapshot": ["fail"]})
    assert status == "failed"
    assert done == [("step", "snapshot", "fail"), ("end", "failed", "snapshot fail")]


def test_a_failed_migration_takes_the_way_back_at_once_and_says_why() -> None:
    status, done = carry_out({"migrate": ["fail"]})
    assert status == "rolled back"
    assert ("way back", "migrate fail") in done
    assert [one for one in done if one[0] == "step"][-3:] == BACK
    assert "checkpoints" not in steps_in(done)
    assert not [one for one in done if one[0] == "ask"]


def test_a_failure_that_asks_is_tried_again_on_retry() -> None:
    status, done = carry_out({"checkpoints": ["fail"]}, [("ask", "checkpoints", order("retry"))])
    assert status == "launched"
    assert steps_in(done).count("checkpoints") == 2
    assert ("ask", "checkpoints", "1", "checkpoints fail", "['retry', 'abort']") in done


def test_a_failure_that_asks_takes_the_way_back_on_abort() -> None:
    status, done = carry_out({"checkpoints": ["fail"]}, [("ask", "checkpoints", order("abort"))])
    assert status == "rolled back"
    assert ("way back", "abort ordered by grace@laptop") in done


def test_a_doubt_about_something_that_goes_on_may_be_answered_by_going_on_with_it() -> None:
    world = World(PLAN, {"watch": ["inconclusive", "inconclusive"]}, again=("watch",))
    asked: list[object] = []
    memory = Memory(world)
    perform = memory.perform

    def listen(work: str, *arguments: object) -> object:
        if work == "ask":
            asked.append(arguments[-1])
            world.queue.append(order("retry" if len(asked) == 1 else "go"))
        return perform(work, *arguments)

    memory.perform = listen  # type: ignore[method-assign]
    assert course.launch(memory, 1) == "launched"
    assert asked == [["go", "retry", "abort"]] * 2
    assert [one for one in world.done if one[0] == "step" and one[1] == "watch"] == [
        ("step", "watch", "inconclusive")
    ] * 2


def test_a_failure_cannot_be_waved_through_with_go() -> None:
    orders = [("ask", "checkpoints", order("go")), ("ask", "checkpoints", order("retry"))]
    status, done = carry_out({"checkpoints": ["fail"]}, orders)
    assert status == "launched"
    assert fates(done) == [("go", "ignored"), ("retry", "taken")]
    assert steps_in(done).count("checkpoints") == 2


@pytest.mark.parametrize("where", ["gate-stop", "migrate", "checkpoints"])
def test_a_doubt_is_a_question_whatever_a_failure_would_lead_to(where: str) -> None:
    with pytest.raises(Stuck):
        carry_out({where: ["inconclusive"]})
    status, done = carry_out({where: ["inconclusive"]}, [("ask", where, order("go", gate=where))])
    assert status == "launched"
    assert ("decided", where, "1", "grace@laptop") in done
    assert steps_in(done) == IDS


def test_a_gate_that_says_no_stops_before_the_window() -> None:
    status, done = carry_out({"gate-stop": ["fail"]}, [("ask", "gate-stop", order("go"))])
    assert status == "failed"
    assert "migrate" not in steps_in(done)


def test_a_go_for_another_gate_does_not_open_this_one() -> None:
    orders = [("ask", "gate-stop", order("go", gate="gate-green")), ("ask", "gate-stop", order("abort"))]
    status, done = carry_out({"gate-stop": ["inconclusive"]}, orders)
    assert status == "rolled back"
    assert fates(done) == [("go", "ignored"), ("abort", "taken")]


def test_a_go_pressed_twice_opens_one_gate_only() -> None:
    go = order("go", gate="gate-stop")
    orders = [("ask", "gate-stop", go), ("ask", "gate-stop", go)]
    verdicts = {"gate-stop": ["inconclusive"], "checkpoints": ["inconclusive"]}
    with pytest.raises(Stuck):
        carry_out(verdicts, orders)
    status, done = carry_out(verdicts, [*orders, ("ask", "checkpoints", order("go", gate="checkpoints"))])
    assert status == "launched"
    assert fates(done) == [("go", "taken"), ("go", "ignored"), ("go", "taken")]


def test_a_go_while_nothing_is_asked_is_ignored_and_said_so() -> None:
    status, done = carry_out(orders=[("step", "snapshot", order("go"))])
    assert status == "launched"
    assert fates(done) == [("go", "ignored")]


@pytest.mark.parametrize("word", ["abort", "rollback"])
@pytest.mark.parametrize("where", IDS)
def test_abort_and_rollback_win_at_every_boundary(where: str, word: str) -> None:
    status, done = carry_out(orders=[("remaining", where, order(word))])
    assert status == "rolled back"
    assert steps_in(done) == IDS[: IDS.index(where)] + [one["id"] for one in WAY_BACK]


@pytest.mark.parametrize("word", ["abort", "rollback"])
@pytest.mark.parametrize("where", IDS)
def test_abort_and_rollback_sent_while_a_step_runs_are_obeyed_after_it_also_after_the_last(
    where: str, word: str
) -> None:
    status, done = carry_out(orders=[("step", where, order(word))])
    assert status == "rolled back"
    assert steps_in(done) == IDS[: IDS.index(where) + 1] + [one["id"] for one in WAY_BACK]


@pytest.mark.parametrize("where", IDS)
def test_a_step_that_an_order_interrupted_leads_to_the_way_back(where: str) -> None:
    status, done = carry_out({where: ["interrupted"]}, [("step", where, order("rollback"))])
    assert status == "rolled back"
    assert steps_in(done) == IDS[: IDS.index(where) + 1] + [one["id"] for one in WAY_BACK]


@pytest.mark.parametrize("where", IDS)
def test_hold_stops_before_a_step_until_go(where: str) -> None:
    held = ("remaining", where, order("hold"))
    with pytest.raises(Stuck):
        carry_out(orders=[held])
    status, done = carry_out(orders=[held, ("ask", where, order("go", gate=where))])
    assert status == "launched"
    assert steps_in(done) == IDS
    asked = next(one for one in done if one[0] == "ask")
    assert asked[1] == where and "held by grace@laptop" in asked[3]


@pytest.mark.parametrize("word", ["abort", "rollback"])
def test_a_held_launch_can_be_taken_back(word: str) -> None:
    orders = [("remaining", "migrate", order("hold")), ("ask", "migrate", order(word))]
    status, done = carry_out(orders=orders)
    assert status == "rolled back"
    assert "migrate" not in steps_in(done)


def test_hold_pressed_twice_holds_once_and_says_so() -> None:
    orders = [
        ("remaining", "migrate", order("hold")),
        ("ask", "migrate", order("hold")),
        ("ask", "migrate", order("retry")),
        ("ask", "migrate", order("go")),
    ]
    status, done = carry_out(orders=orders)
    assert status == "launched"
    assert fates(done) == [("hold", "taken"), ("hold", "ignored"), ("retry", "ignored"), ("go", "taken")]


def test_a_step_waits_for_its_time_and_goes_on_when_it_has_come() -> None:
    world = World(PLAN, remaining={"migrate": 3600.0, "watch": 20 * 24 * 3600.0})
    memory = Memory(world)

    def take(timeout: float) -> None:
        if timeout == course.FOREVER:  # the first week of the twenty days is over
            world.remaining = {"watch": 0.0}

    memory._take = take  # type: ignore[method-assign, assignment]
    assert course.launch(memory, 1) == "launched"
    waits = [request[1] for request, _ in memory.record if request[0] == "receive"]
    assert waits == [0.0, 0.0, 3600.0, 0.0, course.FOREVER, 0.0, 0.0]
    assert steps_in(world.done) == IDS


@pytest.mark.parametrize("where", [one["id"] for one in WAY_BACK])
@pytest.mark.parametrize("word", ["retry", "abort", "rollback"])
def test_a_failure_on_the_way_back_is_asked_about_and_never_walked_past(where: str, word: str) -> None:
    verdicts = {"migrate": ["fail"], where: ["fail", "fail"]}
    with pytest.raises(Stuck):
        carry_out(verdicts)
    orders = [("ask", where, order("go")), ("ask", where, order("hold")), ("ask", where, order(word))]
    status, done = carry_out(verdicts, [*orders, ("ask", where, order("retry"))])
    assert status == "rolled back"
    back = [one for one in done if one[0] == "step" and one[1].startswith("back-")]
    position = [one["id"] for one in WAY_BACK].index(where)
    assert back == [*BACK[:position], ("step", where, "fail"), ("step", where, "fail"), *BACK[position:]]


def test_each_attempt_on_the_way_back_has_a_number_of_its_own() -> None:
    """The ledger's keys are made of it: two attempts with one number would be recorded as one."""
    retries = [("ask", "back-swap", order("retry")), ("ask", "back-swap", order("rollback"))]
    memory = Memory(World(PLAN, {"migrate": ["fail"], "back-swap": ["fail", "fail", "interrupted"]}, retries))
    assert course.launch(memory, 1) == "rolled back"
    numbers = [request[3] for request, _ in memory.record if request[:3] == ("step", 1, "back-swap")]
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize("orders", [[], [("step", "back-swap", order("rollback"))]])
def test_a_rollback_during_a_rollback_neither_stops_nor_stalls_it(orders: Sequence[tuple[str, str, Any]]) -> None:
    """The order may reach the step by its interrupt mark alone, when the course took the order itself before."""
    status, done = carry_out({"migrate": ["fail"], "back-swap": ["interrupted"]}, orders)
    assert status == "rolled back"
    assert [one for one in done if one[0] == "step"][-4:] == [BACK[0], ("step", "back-swap", "interrupted"), *BACK[1:]]
    assert fates(done) == [("rollback", "ignored")] * len(orders)
    # The work that lets steps run again is carried out again before the step is.
    assert [one[0] for one in done if one[0] == "way back"] == ["way back"] * 2


def test_an_order_to_close_the_site_at_once_is_taken_by_the_step_that_it_ends() -> None:
    orders = [("step", "back-swap", order("rollback", stop_first=True))]
    status, done = carry_out({"migrate": ["fail"], "back-swap": ["interrupted"]}, orders)
    assert (status, fates(done)) == ("rolled back", [("rollback", "taken")])


@pytest.mark.parametrize("verdict", ["interrupted", "fail", "inconclusive"])
@pytest.mark.parametrize("where", ["back-stop", "back-swap"])
def test_a_rollback_can_be_turned_round_from_a_step_and_from_a_question(where: str, verdict: str) -> None:
    when = ("step", where) if verdict == "interrupted" else ("ask", where)
    orders = [("step", "migrate", order("rollback")), (*when, order("return"))]
    status, done = carry_out({"migrate": ["pass"], where: [verdict]}, orders)
    assert status == "launched"
    assert ("way forth", "return ordered by grace@laptop") in done
    assert steps_in(done)[-3:] == [where, "forth-swap", "forth-open"]
    assert ("return", "taken") in fates(done)


def test_an_order_to_return_that_comes_too_late_is_told_and_the_rollback_ends() -> None:
    orders = [("step", "migrate", order("rollback")), ("ask", "back-late", order("return")), *TWICE]
    late = (*WAY_BACK, step("back-late"))
    status, done = carry_out({"migrate": ["pass"], "back-late": ["fail"]}, orders, way_back=late)
    assert status == "rolled back"
    assert ("return", "ignored") in fates(done)


def test_a_failure_on_the_way_forth_is_asked_about() -> None:
    orders = [
        ("step", "migrate", order("rollback")),
        ("step", "back-swap", order("return")),
        ("ask", "forth-swap", order("rollback")),
        ("order", "forth-swap", order("retry")),
    ]
    status, done = carry_out({"migrate": ["pass"], "back-swap": ["interrupted"], "forth-swap": ["fail"]}, orders)
    assert status == "launched"
    assert [one for one in steps_in(done) if one.startswith("forth")] == ["forth-swap", "forth-swap", "forth-open"]


@pytest.mark.parametrize(("verdict", "when"), [("fail", "ask"), ("interrupted", "step")])
def test_a_return_whose_new_release_does_not_start_is_given_up_for_another_rollback(verdict: str, when: str) -> None:
    orders = [
        ("step", "migrate", order("rollback")),
        ("step", "back-swap", order("return")),
        (when, "forth-open", order("rollback", by="ada@ops")),
    ]
    status, done = carry_out({"migrate": ["pass"], "back-swap": ["interrupted"], "forth-open": [verdict]}, orders)
    # The run ends; whoever conducts begins another one for this order.
    assert (status, done[-1]) == ("launched", ("end", "launched", "rollback ordered by ada@ops"))
    assert fates(done)[-1] == ("rollback", "taken") and steps_in(done).count("forth-open") == 1


def test_a_rollback_of_a_finished_launch_takes_the_same_way_back() -> None:
    world = World(PLAN)
    assert course.back(Memory(world), 2, "rollback ordered by ada", "ada") == "rolled back"
    assert [one for one in world.done if one[0] == "step"] == BACK


def test_a_way_back_without_steps_ends_at_once() -> None:
    status, done = carry_out(orders=[("remaining", "snapshot", order("abort"))], way_back=())
    assert status == "rolled back"
    assert steps_in(done) == []


words = st.sampled_from(["go", "hold", "retry", "abort", "rollback"])
moments = st.tuples(st.sampled_from(["remaining", "step", "ask"]), st.sampled_from([*IDS, "back-swap"]))
worlds = st.builds(
    lambda verdicts, given: World(PLAN, verdicts, [(*when, order(word)) for when, word in given]),
    st.dictionaries(
        st.sampled_from([*IDS, "back-stop", "back-swap"]),
        st.lists(st.sampled_from(["pass", "fail", "inconclusive", "interrupted"]), max_size=2),
        max_size=3,
    ),
    st.lists(st.tuples(moments, words), max_size=4),
)


def finish(memory: Memory) -> str:
    """The course's end, or that it waits for a person."""
    try:
        return course.launch(memory, 1)
    except Stuck:
        return "waits"


@settings(deadline=None)
@given(worlds)
def test_a_replayed_course_asks_for_the_same_things_and_takes_the_same_turns(world: World) -> None:
    memory = Memory(copy.deepcopy(world))
    ended = finish(memory)
    for cut in range(len(memory.record) + 1):
        replayed = Memory(World(PLAN), record=list(memory.record[:cut]), life=0)
        try:
            assert course.launch(replayed, 1) == ended
        except Killed:
            assert replayed.position == cut  # every recorded answer was asked for, in the same order


@settings(deadline=None)
@given(worlds)
def test_a_course_killed_between_two_works_ends_as_if_it_had_never_been(world: World) -> None:
    whole = Memory(copy.deepcopy(world))
    ended = finish(whole)
    for cut in range(len(whole.record)):
        lived = copy.deepcopy(world)
        first = Memory(lived, life=cut)
        with pytest.raises(Killed):
            course.launch(first, 1)
        second = Memory(lived, record=first.record)
        assert finish(second) == ended
        assert second.record == whole.record
        assert lived.done == whole.world.done


def test_work_whose_answer_a_kill_lost_is_the_only_work_that_is_repeated() -> None:
    whole = Memory(World(PLAN))
    course.launch(whole, 1)
    for cut, (request, _) in enumerate(whole.record):
        lived = World(PLAN)
        first = Memory(lived, life=cut, unrecorded=True)
        with pytest.raises(Killed):
            course.launch(first, 1)
        assert course.launch(Memory(lived, record=first.record), 1) == "launched"
        repeated = [request[2]] if request[0] == "step" else []
        expected = [one for step_id in IDS for one in [step_id] * (2 if step_id in repeated else 1)]
        assert steps_in(lived.done) == expected


def test_a_question_says_what_was_found_as_far_as_a_line_holds_it() -> None:
    found = "invalid input syntax\n for type json."
    outcome = {"summary": "Setting it: PostgreSQL refused.", "found": found, "remedy": "Look."}
    asked = course._question(outcome)
    assert asked == "Setting it: PostgreSQL refused. Found: invalid input syntax for type json. Look."
    assert len(course._question({"summary": "No.", "found": "x" * 5000})) < 400
    assert course._question({"summary": "No.", "found": None, "remedy": None}) == "No."
