"""`safepoint status` on a machine whose state folder has nothing of the launch, or has an older copy of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from commanded import safepoint
from plan_file import PASSWORD_ENV, plan_file
from psycopg import sql

from safepoint.config import PlanFile
from safepoint.launch.guard import TAKE, key_of, session_name
from safepoint.launch.ledger import Ledger
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import twin_name


@pytest.fixture
def second(database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanFile:
    """The plan file on a second laptop."""
    monkeypatch.setenv(PASSWORD_ENV, str(database.password))
    return plan_file(tmp_path, database)


def status(plan: PlanFile) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(safepoint(plan, "status", "--json").stdout)
    return answer


@contextmanager
def conducted(database: Target, plan: PlanFile) -> Iterator[None]:
    """Somebody elsewhere has the guard."""
    name = session_name(plan.launch_id, "ann@first")
    with psycopg.connect(**database.on("postgres").conninfo(), application_name=name, autocommit=True) as first:  # type: ignore[arg-type]
        first.execute(TAKE, key_of(database.dbname))
        yield


@contextmanager
def with_twin(database: Target, plan: PlanFile) -> Iterator[str]:
    """The launch's twin stands on the server."""
    name = twin_name(database.dbname, plan.launch_id)
    with connect(database.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            connection.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


def begin(plan: PlanFile, *ends: str) -> None:
    """A ledger in which the launch began, and got no further than its survey."""
    path = plan.state / "launches" / plan.launch_id / "ledger.jsonl"
    path.parent.mkdir(parents=True)
    with Ledger(path) as ledger:
        made = {"launch_id": plan.launch_id, "application": "shop", "old": "1.0", "new": "2.0", "steps": []}
        ledger.append("launch", "launch", {"plan": made, "by": "bob", "machine": "second"})
        ledger.append("run", "run:1", {"run": 1, "course": "launch", "by": "bob", "machine": "second", "pid": 1})
        for end in ends:
            ledger.append("end", "end:1", {"run": 1, "status": end, "reason": "a drill"})


def test_a_launch_that_is_conducted_elsewhere_is_told_by_its_conductor(second: PlanFile, database: Target) -> None:
    assert status(second)["elsewhere"] is None
    with conducted(database, second):
        told = status(second)
        shown = " ".join(safepoint(second, "status").stdout.split())
        order = safepoint(second, "abort").exception
    assert "Another conductor is at work" in told["standing"]["headline"] and "ann@first" in shown
    assert "serves everyone" not in shown and "safepoint launch" not in shown and "is its disk mounted here?" in shown
    assert told["next"] is None and told["standing"]["commands"] == []
    assert "ann@first" in str(order)  # it is not told that nothing has begun


def test_what_stands_on_the_server_is_told_where_the_state_folder_is_away(second: PlanFile, database: Target) -> None:
    with with_twin(database, second) as twin:
        told = status(second)["standing"]
    assert "was begun before, from another state folder" in told["headline"]
    assert twin in told["safe"] and told["tone"] == "bad" and str(second.state) in told["next"]


@pytest.mark.parametrize("ends", [(), ("aborted",), ("failed",)])
def test_an_older_copy_of_the_launch_says_that_it_was_gone_on_with(
    second: PlanFile, database: Target, ends: tuple[str, ...]
) -> None:
    begin(second, *ends)
    assert status(second)["elsewhere"] is None
    with with_twin(database, second) as twin:
        told = status(second)["standing"]
    assert "gone on with from another state folder" in told["headline"] and twin in told["safe"]
    assert "its disk mounted" not in told["next"]


def test_what_nobody_could_ask_is_not_called_safe(second: PlanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV)
    told = status(second)["standing"]
    assert told["safe"].startswith("Not known") and PASSWORD_ENV in told["safe"]
    begin(second)  # a folder that has the launch says what it knows
    assert not status(second)["standing"]["safe"].startswith("Not known")
