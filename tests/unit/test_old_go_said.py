"""A go for the window that is too old is asked for again before the site is closed: nobody is told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import Story, prepared

from safepoint.launch.report.model import build, present
from safepoint.launch.report.standing import standing

TOO_OLD = "The go for the window was given 40 min ago. The site is still open."


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return prepared(tmp_path / "ledger.jsonl").done("gate-stop", 0.1, "go").wait(2400)


def report(story: Story) -> Any:
    return present(build(story.entries), story.entries)


def test_while_it_is_asked_for_the_site_is_open(story: Story) -> None:
    story.failed("stop-traffic", 0.2, "fail", TOO_OLD, error="NeedsPerson").ask("stop-traffic", TOO_OLD, "retry")
    told = standing(report(story))
    assert told["open"].startswith("1.0 serves everyone") and told["safe"].startswith("Nothing of the live system")
    story.done("stop-traffic", 0.2, attempt=2)
    told = standing(report(story))
    assert told["open"].startswith("Nobody: the site has been closed since 08:40:")
    assert told["safe"].startswith("The database is unchanged")


def test_where_it_would_not_be_given_now_nobody_was_kept_out(story: Story) -> None:
    story.failed("stop-traffic", 0.2, "fail", f"{TOO_OLD} It would not be given now.", error="Refused")
    story.way_back(TOO_OLD).done("back-open", 1.0).end("aborted", TOO_OLD)
    found = report(story)
    told = standing(found)
    assert told["open"].startswith("1.0 serves everyone") and "recovers" not in told["next"]
    assert found["rollback"]["downtime_seconds"] is None
