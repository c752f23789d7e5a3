"""What `rollback` says at its end: whom to tell."""

from __future__ import annotations

import pytest

from safepoint.cli import orders
from safepoint.launch.report import standing


def test_people_are_named_only_where_anybody_lost_anything() -> None:
    found = {
        "users": 0,
        "whole": 2,
        "unknown": 0,
        "page": "affected.html",
        "letters": "affected-users.csv",
        "notes": [],
    }
    assert orders._told(found) == ["Nobody is affected, all that was written was carried back: affected.html"]
    assert orders._told({**found, "users": 1})[0] == "1 user is affected: affected.html"
    assert orders._told({**found, "unknown": 3})[0] == "0 users are affected, and 3 rows lead to no user: affected.html"
    assert orders._told({**found, "users": 2}) == [
        "2 users are affected: affected.html",
        "A line for each, with the text to send: affected-users.csv",
    ]


def test_it_is_not_said_that_all_was_carried_where_not_all_was_seen() -> None:
    blind = "Large objects are not captured: neither decoding nor triggers see them."
    found = {"users": 0, "whole": 2, "unknown": 0, "page": "affected.html", "letters": "a.csv", "notes": [blind]}
    told = orders._told(found)
    assert told == ["Nobody is known to be affected, but not all can be known: affected.html", blind]


@pytest.mark.parametrize(
    ("users", "unknown", "notes", "told"),
    [
        (2, 0, [], "Tell the 2 users who are affected: affected.html says what, with a text for each. "),
        (
            1,
            3,
            [],
            "Tell the 1 user who is affected: affected.html says what, with a text for each; 3 rows lead to no ",
        ),
        (0, 3, [], "Find out who changed what was lost or put away and leads to no user (3): see affected.html. "),
        (0, 0, ["Large objects are not captured."], "Nobody is known to be affected, but not all can be known: see "),
        (0, 0, [], ""),
    ],
)
def test_what_to_do_next_after_a_rollback_names_those_who_are_affected(
    users: int, unknown: int, notes: list[str], told: str
) -> None:
    """Of sessions that are listed nobody has to be told."""
    found = {"users": users, "unknown": unknown, "page": "affected.html", "notes": notes}
    said = standing._told({"affected": found, "listed": 4})
    assert said.startswith(told) and bool(said) == bool(told)
