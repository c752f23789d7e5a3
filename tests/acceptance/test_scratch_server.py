"""A whole launch whose proofs and rehearsals are made on a server that the plan names, and others use, too."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from other_server import PASSWORD, other_server, section
from scene import brisk, evidence, release_that_answers, slots_and_roles_left
from stage import Stage

from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.faults import VARIABLE
from safepoint.postgres.servers import Server

THERE = """
    SELECT datname::text, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
    UNION ALL SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles ORDER BY 1
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    with other_server(tmp_path / "other") as server:
        yield server


def everything(server: Server) -> list[tuple[object, ...]]:
    """The databases and roles of a server, and what is said of them."""
    with psycopg.connect(**server.target.conninfo()) as connection:  # type: ignore[arg-type]
        return connection.execute(THERE).fetchall()


def rehearsed(text: str) -> str:
    """The demo's plan with its rehearsal, and without the waiting."""
    return brisk(text).replace("\n[rehearsal]\nrequired = false\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("change", [rehearsed, brisk], ids=["rehearsed", "way-back-proven"])
def test_a_launch_proves_and_rehearses_there_and_leaves_nothing(
    make_stage: Callable[..., Stage], other: Server, change: Callable[[str], str]
) -> None:
    stage = make_stage(lines=500, change=lambda text: change(text) + section(other, "scratch"))
    stage.environment["FAR_PASSWORD"] = PASSWORD
    before = everything(other)
    doctored = json.loads(stage.safepoint("doctor", "--json", capture=True).stdout)
    assert [one["verdict"] for one in doctored["findings"] if one["check"] == "scratch"] == ["ok"], doctored
    step = "rehearse" if change is rehearsed else "prove-way-back"
    killed = stage.safepoint("launch", "--now", "--plain", capture=True, env={VARIABLE: f"{step}:applied"})
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    writers = stage.writers()
    done = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert everything(other) == before
    for proof in ("proof", "final-proof"):
        assert f"127.0.0.1:{other.port}" in json.dumps(evidence(stage, proof)), evidence(stage, proof)
    rolled = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled.returncode == 0, rolled.stdout + rolled.stderr
    assert writers.stop().by_release["2.0"] > 0
    assert release_that_answers(stage) == "1.0" and status_of(entries_of(stage.plan)) == "rolled back"
    assert stage.acknowledged() - stage.present() == set()  # carried back by the way back that was proven there
    assert slots_and_roles_left(stage) == ([], [])
    assert everything(other) == before
