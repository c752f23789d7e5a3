"""What `rollback` says at its end: whom to tell."""

from __future__ import annotations

from safepoint.cli import orders


def test_people_are_named_only_where_anybody_lost_anything() -> None:
    found = {"users": 0, "whole": 2, "unknown": 0, "page": "affected.html", "letters": "affected-users.csv"}
    assert orders._told(found) == ["Nobody is affected, all that was written was carried back: affected.html"]
    assert orders._told({**found, "users": 1})[0] == "1 user is affected: affected.html"
    assert orders._told({**found, "unknown": 3})[0] == "0 users are affected, and 3 rows lead to no user: affected.html"
    assert orders._told({**found, "users": 2}) == [
        "2 users are affected: affected.html",
        "A line for each, with the text to send: affected-users.csv",
    ]
