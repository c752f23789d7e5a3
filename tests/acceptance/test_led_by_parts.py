"""A launch of a project that reads its database's address in parts: led by them, it loses nothing either."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from in_parts import go_by_parts, named
from other_server import other_server, prepare, section
from scene import brisk, evidence, release_that_answers, slots_and_roles_left
from stage import Stage

from safepoint.django.address import at_address
from safepoint.postgres.servers import Server


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    with other_server(tmp_path / "other") as server:
        yield server


def test_it_is_rehearsed_migrated_by_a_login_of_its_own_and_rolled_back(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(change=named())
    go_by_parts(stage)
    findings = json.loads(stage.safepoint("doctor", "--json", capture=True).stdout)["findings"]
    tried = "DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD decide which database 2.0 uses (tried)"
    assert tried in [one["message"] for one in findings], findings
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    rehearsed = json.loads(next(stage.plan.state.glob("snapshots/*/rehearsal.json")).read_text())
    checks = {one["name"]: one["verdict"] for one in rehearsed["checks"]}
    assert (checks["start command"], checks["fence"]) == ("pass", "pass")  # it was started, on the copy
    assert "accounting locked out" in evidence(stage, "fence")["summary"]
    time.sleep(1)  # people work with the new release
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    tally = writers.stop()
    assert release_that_answers(stage) == "1.0" and tally.by_release["2.0"] > 0
    assert stage.acknowledged() - stage.present() == set()
    assert slots_and_roles_left(stage) == ([], [])
    told = launched.stdout + launched.stderr + rolled_back.stdout + (stage.launch_folder / "ledger.jsonl").read_text()
    assert stage.environment["DB_PASSWORD"] not in told


def test_a_rollback_leads_it_to_another_server(make_stage: Callable[..., Stage], other: Server) -> None:
    stage = make_stage(lines=500, change=lambda text: named()(brisk(text)) + section(other))
    go_by_parts(stage)
    prepare(stage, other)
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert evidence(stage, "twin")["server"] == f"127.0.0.1:{other.port}"
    time.sleep(1)  # people work with the new release
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert release_that_answers(stage) == "1.0" and writers.stop().by_release["2.0"] > 0
    stage.environment["DATABASE_URL"] = at_address(stage.environment["DATABASE_URL"], f"127.0.0.1:{other.port}")
    assert stage.acknowledged() - stage.present() == set()
