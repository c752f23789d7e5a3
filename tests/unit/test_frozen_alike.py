"""Two releases whose folders hold the same files: their code is a product that is installed elsewhere."""

from __future__ import annotations

from safepoint.launch.frozen import alike


def test_that_what_differs_is_not_frozen_is_said() -> None:
    assert alike({"old": "a", "new": "b"}) == ""
    assert "NOT frozen" in alike({"old": "a", "new": "a"})
