"""Work beside other work: whichever fails first is what is told, and it ends the other."""

from __future__ import annotations

import threading
import time

import pytest

from safepoint.errors import DatabaseError, Interrupted
from safepoint.launch.rehearsal.undo import beside
from safepoint.progress import Cancelled, never


def until(cancelled: Cancelled) -> None:
    """Work that only an order ends."""
    deadline = time.monotonic() + 10
    while not cancelled():
        assert time.monotonic() < deadline, "nobody ended it"
        time.sleep(0.005)
    raise Interrupted("It was ended.", subject="work")


def test_both_end_and_the_answer_is_given() -> None:
    with beside(lambda cancelled: 7, never) as (cancelled, answer):
        assert not cancelled()
    assert answer() == 7


def test_a_fault_of_the_work_ends_the_body_and_is_told() -> None:
    def fail(_: Cancelled) -> None:
        raise DatabaseError("It went wrong.", subject="x")

    with pytest.raises(DatabaseError, match="It went wrong"), beside(fail, never) as (cancelled, _):
        until(cancelled)


def test_a_fault_of_the_body_ends_the_work_and_is_told() -> None:
    ended: list[bool] = []

    def work(cancelled: Cancelled) -> None:
        try:
            until(cancelled)
        finally:
            ended.append(True)

    for fault in (DatabaseError("It went wrong.", subject="x"), KeyboardInterrupt()):
        with pytest.raises(type(fault)), beside(work, never):
            raise fault
    assert ended == [True, True]


def test_an_order_ends_both() -> None:
    ordered = threading.Event()

    def order(*, at_the_end: bool) -> None:
        ordered.clear()
        with beside(until, ordered.is_set) as (cancelled, answer):
            ordered.set()
            if at_the_end:
                answer()
            until(cancelled)

    for at_the_end in (False, True):
        with pytest.raises(Interrupted):
            order(at_the_end=at_the_end)
