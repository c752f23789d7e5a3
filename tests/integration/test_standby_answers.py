"""A failover in the middle of a rollback: for a time a standby answers where the server was, and only reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from least_plan import SOMEDAY
from psycopg import sql
from streaming_standby import Standby, streaming

from safepoint.config import PlanFile, parse
from safepoint.django.operations import NONE
from safepoint.errors import CommandFailed, DatabaseError, ServerAway, StillAway
from safepoint.hosts import command
from safepoint.launch import patience
from safepoint.launch.background import Background
from safepoint.launch.begin import launch_folder
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.step import PlannedStep
from safepoint.launch.verbs.ahead import CarryAhead
from safepoint.launch.verbs.carrying import PROOF, Carry
from safepoint.launch.verbs.wayback import Drain
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server, free_port
from safepoint.postgres.unprivileged import account, reachable
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.fence.fence import close, survey_fence
from safepoint.wayback.mapping.mapping import WayBack

SETTINGS = {"wal_level": "logical", "fsync": "off", "shared_buffers": "32MB", "hot_standby_feedback": "on"}


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    programs = reachable(account(), installation(17))
    with Server.create(tmp_path_factory.mktemp("server") / "pg", programs, settings=SETTINGS) as own:
        with connect(own.target) as connection:
            connection.execute("create database shop")
            connection.execute("create role shop login")
        with streaming(own) as found:
            found.received()
            yield found


def ground_of(plan: PlanFile) -> Ground:
    """Of a step of a rollback."""
    return Ground(
        plan,
        plan.launch_id,
        Ledger(launch_folder(plan) / "ledger.jsonl"),
        PlannedStep("back-fence", "fence", "Stop writes at the database", "rollback"),
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )


@pytest.fixture
def ground(standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """Of one whose database's address leads to the standby."""
    monkeypatch.setenv("SHOP_PASSWORD", standby.target.password or "")
    monkeypatch.setattr(patience, "AWAY", 1.0)
    return ground_of(parse(SOMEDAY.format(port=standby.target.port), tmp_path / "launch.toml"))


def test_what_was_written_is_not_given_up_because_a_standby_answers(standby: Standby, ground: Ground) -> None:
    """It would have been listed, and not carried: the standby refuses what a replay writes."""
    twin = sql.Identifier(ground.twin)
    with connect(standby.own.target) as connection:
        connection.execute(sql.SQL("create database {}").format(twin))
    standby.received()
    proof = {"proven": True, "mapping": WayBack(()).as_json(), "operations": NONE.as_json()}
    ground.record(PROOF, proof)
    ground.record("capture", {"mode": "triggers"})
    with pytest.raises(ServerAway):
        Carry().apply(ground)


def test_a_capture_is_not_lost_because_a_standby_has_no_slot(standby: Standby, ground: Ground) -> None:
    """For good: what was written last would have been listed, also where the server itself came back."""
    shop = standby.own.target.on("shop")
    facts = arm(shop, ground.launch_id, "logical")
    ground.record("capture", facts.as_json())
    try:
        with pytest.raises(StillAway, match="A standby answers"):
            patience.patiently(ground, lambda: Drain().apply(ground))
        assert ground.fact("capture-lost") is None
        with pytest.raises(ServerAway) as away:  # asked while that costs nobody anything
            CarryAhead().apply(ground)
        assert "the site is open" in str(away.value.remedy)
    finally:
        disarm(shop, facts)


def test_a_server_that_answers_and_lets_nobody_in_is_not_waited_for(
    standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time helps against that."""
    monkeypatch.setenv("SHOP_PASSWORD", standby.target.password or "")
    text = SOMEDAY.format(port=standby.target.port).replace('user = "postgres"', 'user = "nobody"')
    refused = ground_of(parse(text, tmp_path / "launch.toml"))
    with pytest.raises(DatabaseError) as told:
        patience.patiently(refused, lambda: connect(refused.target).close())
    assert not isinstance(told.value, ServerAway)
    assert [entry for entry in refused.ledger.entries if entry.kind == patience.WAITS] == []


def test_a_command_of_the_application_s_that_fails_while_the_server_is_away_waits_for_it(
    standby: Standby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old release does not start, nor is its schema checked, without its database: it was asked about at once."""
    monkeypatch.setattr(patience, "AWAY", 1.0)
    monkeypatch.setenv("SHOP_PASSWORD", standby.own.target.password or "")
    for port, kind in ((free_port(), StillAway), (standby.own.target.port, CommandFailed)):
        made = ground_of(parse(SOMEDAY.format(port=port), tmp_path / str(port) / "launch.toml"))
        tried = partial(made.application_host.run, command(["false"]))
        with pytest.raises(kind) as failed:
            patience.patiently(made, tried)
        assert ("PostgreSQL does not answer" in failed.value.message) == (kind is StillAway)


def test_a_step_that_a_standby_refuses_waits_for_a_server_that_writes(standby: Standby, ground: Ground) -> None:
    """It was asked about at once, with the site closed, and nobody was told what it was about."""
    shop = standby.target.on("shop")
    prior = survey_fence(shop, ["shop"])
    with pytest.raises(StillAway, match="A standby answers") as away:
        patience.patiently(ground, lambda: close(shop, prior))
    assert "Promote" in str(away.value.remedy)
    patience.AWAY = 30.0  # set back with the fixture

    def promoted() -> None:
        time.sleep(1)  # the step has met the standby by then, and waits
        standby.do("pg_ctl", "-D", str(standby.folder), "-w", "promote")

    threading.Thread(target=promoted, daemon=True).start()
    assert patience.patiently(ground, lambda: close(shop, prior)).closed_logins == ("shop",)
