"""What `safepoint init` calls an application: snapshots, folders and the twin bear it."""

from __future__ import annotations

from safepoint.launch.draft import called_after


def test_a_name_that_every_project_has_is_no_name_of_an_application() -> None:
    assert called_after("accounting", "config.settings.production", "books") == "accounting"
    assert called_after("release-1.0", "accounting.settings", "books") == "accounting"
    assert called_after("release-1.0", "config.settings.production", "books") == "books"
    assert called_after("current", "core.settings", "") == "current"
    assert called_after("current", "", "books") == "books"
