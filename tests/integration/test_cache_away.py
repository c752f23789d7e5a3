"""A cache's server that is restarted, or fails over, while the old release's cache is cleared on the way back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from django_site import write_site
from least_plan import LEAST
from loaded_django import python

from safepoint.config import parse
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.step import PlannedStep
from safepoint.launch.verbs import application
from safepoint.launch.verbs.application import ClearCache
from safepoint.postgres.target import Target

CACHE = """\
[cache]
clear = [["shell", "-c", {command}]]

[releases.old]
directory = "{site}"
manage = ["{python}", "src/manage.py"]
env = {{ DATABASE_URL = "{url}" }}"""


def ground(folder: Path, database: Target) -> Ground:
    """Of the step that clears the cache, whose server is there once there is the file `cache`."""
    there = f"import pathlib; assert pathlib.Path('{folder}/cache').exists(), 'Connection to the cache refused'"
    site = write_site(folder / "site")
    cache = CACHE.format(command=json.dumps(there), site=site, python=python(), url=database.url())
    plan = parse(LEAST.replace("[releases.old]", cache), folder / "launch.toml")
    return Ground(
        plan,
        plan.launch_id,
        Ledger(folder / "ledger.jsonl"),
        PlannedStep("back-cache", "clear-cache", "Clear the cache", "rollback", params={"release": "old"}),
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )


def test_it_is_tried_again_before_anybody_is_asked(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked about at once, with the site closed, and the cache was there a second later."""
    made = ground(tmp_path, database)

    def comes_back() -> None:
        while not any(entry.kind == "waits" for entry in made.ledger.entries):
            time.sleep(0.05)
        (tmp_path / "cache").touch()

    threading.Thread(target=comes_back, daemon=True).start()
    assert ClearCache().apply(made).verdict == "pass"
    (waits,) = [entry for entry in made.ledger.entries if entry.kind == "waits"]
    assert waits.step == "back-cache" and "the cache is not cleared" in waits.data["for"]
    (tmp_path / "cache").unlink()
    monkeypatch.setattr(application, "_CACHE_SECONDS", 0.5)
    asked = ClearCache().apply(made)
    assert asked.verdict == "inconclusive" and "`safepoint go` goes on without that" in asked.summary
