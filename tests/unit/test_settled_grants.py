"""Grants on what belongs to an extension: those that its script gives are of its version, and no part of a dump."""

from __future__ import annotations

import pytest

from safepoint.backup.particulars import settled

NAME = "an extension's function public.f()"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ("none", "public=execute", False),  # another version of it
        ("changed: none", "none", False),  # nothing but the record differs
        ("changed: app=execute", "changed: app=execute", False),
        ("changed: app=execute", "none", True),
        ("none", "changed: app=execute", True),
        ("changed: app=execute", None, True),
        (None, "changed: app=execute", True),
        (None, "none", False),
    ],
)
def test_only_what_was_changed_since_it_was_made_is_compared(ours: str | None, theirs: str | None, told: bool) -> None:
    others = {"relation public.t": "owner app"}
    one, other = settled(
        others | ({} if ours is None else {NAME: ours}), others | ({} if theirs is None else {NAME: theirs})
    )
    assert (one != other) == told
    assert one["relation public.t"] == other["relation public.t"] == "owner app"
