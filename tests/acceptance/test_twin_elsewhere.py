"""A whole launch whose twin is on another server: rolled back to there, turned round, rolled back again, retired."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import forked
import psycopg
import pytest
from other_server import PASSWORD, other_server, prepare, section
from scene import brisk, evidence, release_that_answers
from stage import Stage

from safepoint.django.address import at_address
from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.faults import VARIABLE
from safepoint.postgres.servers import Server
from safepoint.wayback.names import kept_name


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    with other_server(tmp_path / "other") as server:
        yield server


def far(server: Server, more: str = "") -> Callable[[str], str]:
    """The demo's plan with that server for the twin, the way back proven."""
    return lambda text: brisk(text) + section(server) + more


def killed_at(stage: Stage, boundary: str, *words: str) -> None:
    done = forked.safepoint(
        [*words, "--plain", "--plan", str(stage.plan_path)],
        {**stage.environment, VARIABLE: boundary},
        stage.folder / "killed.log",
    )
    assert done.returncode == -signal.SIGKILL, done.stdout[-2000:]


def ordered(stage: Stage, *words: str) -> str:
    done = stage.safepoint(*words, "--plain", capture=True)
    assert done.returncode in (0, 5), done.stdout + done.stderr
    return done.stdout


def databases(server: Server) -> set[str]:
    with psycopg.connect(**server.target.conninfo()) as connection:  # type: ignore[arg-type]
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def left(server: Server) -> list[str]:
    """Slots and roles of Safepoint's, and twins that stand by."""
    with psycopg.connect(**server.target.conninfo()) as connection:  # type: ignore[arg-type]
        rows = connection.execute(
            "SELECT slot_name FROM pg_replication_slots UNION ALL SELECT rolname FROM pg_roles "
            "WHERE rolname LIKE 'safepoint%' UNION ALL SELECT datname FROM pg_database WHERE datname LIKE '%twin%'"
        ).fetchall()
    return [str(row[0]) for row in rows]


def carried_through(
    stage: Stage,
    other: Server,
    launching: Sequence[str] = (),
    rolling_back: Sequence[str] = (),
    *,
    turned: bool = False,
) -> str:
    """Launched and rolled back to the other server, with kills at these boundaries; what the last rollback said.

    A rollback before that is turned round: while the site is still open, or (`turned`) once the old release runs there.
    """
    writers = stage.writers()
    for boundary in launching:
        killed_at(stage, boundary, "launch", "--now")
    ordered(stage, "launch", "--now")
    assert evidence(stage, "twin")["server"] == f"127.0.0.1:{other.port}"
    assert [name for name in databases(stage.server) if "twin" in name] == []
    time.sleep(1.0)  # people post on 2.0 meanwhile
    for boundary in rolling_back:
        killed_at(stage, boundary, "rollback")
    here = stage.environment["DATABASE_URL"]
    there = at_address(here, f"127.0.0.1:{other.port}")
    if turned:
        turn_round(stage, other, there)
    else:
        turn_round_while_open(stage)
    text = ordered(stage, "rollback")
    assert release_that_answers(stage) == "1.0"
    time.sleep(0.5)
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0
    kept = kept_name("accounting", stage.plan.launch_id)
    assert kept in databases(stage.server) and "accounting" not in databases(stage.server)
    stage.environment["DATABASE_URL"] = there
    assert stage.acknowledged() - stage.present() == set()
    stage.environment["DATABASE_URL"] = here
    assert status_of(entries_of(stage.plan)) == "rolled back"
    assert left(stage.server) == [] and left(other) == []
    return text


def turn_round_while_open(stage: Stage) -> None:
    """A rollback that was a mistake is killed while it carries ahead: the site was never closed."""
    killed_at(stage, "back-ahead:applied", "rollback")
    assert release_that_answers(stage) == "2.0"
    ordered(stage, "return")
    begun = [entry.step or "" for entry in entries_of(stage.plan) if entry.kind == "step.begun"]
    assert [step for step in begun if step.startswith(("back-", "forth-"))] == ["back-ahead", "forth-open"]
    assert (status_of(entries_of(stage.plan)), release_that_answers(stage)) == ("launched", "2.0")


def turn_round(stage: Stage, other: Server, there: str) -> None:
    """The old release runs there and is not let in yet: a worker of it writes, then the launch goes on after all."""
    with psycopg.connect(there, autocommit=True) as worker:
        worker.execute("INSERT INTO django_session VALUES ('left-behind', 'a worker wrote it', now())")
        given = worker.execute("SELECT max(nextval('ledger_journalentry_id_seq')) FROM generate_series(1, 5000)")
        (last,) = given.fetchone() or (0,)
    ordered(stage, "return")
    # What is written from now on gets no key of what was left behind there.
    assert stage.query("SELECT last_value >= %s FROM ledger_journalentry_id_seq", last) == [(True,)]
    assert release_that_answers(stage) == "2.0" and "accounting" in databases(stage.server)
    assert "accounting" not in databases(other)
    assert "insert,session_key" in (stage.launch_folder / "left-behind.csv").read_text()
    time.sleep(1.0)  # and go on posting there


def test_a_launch_is_rolled_back_to_another_server_and_loses_nothing(
    make_stage: Callable[..., Stage], other: Server
) -> None:
    stage = make_stage(lines=500, change=far(other))
    refused = stage.safepoint("doctor", "--json", capture=True)  # before anybody prepared it
    assert "FAR_PASSWORD" in refused.stdout + refused.stderr
    stage.environment["FAR_PASSWORD"] = PASSWORD
    warned = json.loads(stage.safepoint("doctor", "--json", capture=True).stdout)
    (twin,) = (one for one in warned["findings"] if one["check"] == "twin")
    assert twin["verdict"] == "warning" and "has no role accounting: create it" in twin["message"], twin
    prepare(stage, other)
    doctored = stage.safepoint("doctor", "--json", capture=True)
    assert f"kept level before the window; the plan names 127.0.0.1:{other.port}" in doctored.stdout
    text = carried_through(stage, other)
    assert f"accounting is on 127.0.0.1:{other.port} now" in text
    said = " ".join(stage.safepoint("status", capture=True).stdout.split())
    assert f"It is on 127.0.0.1:{other.port} now." in said and "in [database]" in said, said
    retired = stage.safepoint("retire", "--now", capture=True)
    assert retired.returncode == 0, retired.stdout + retired.stderr
    assert "accounting" in databases(other)
    assert kept_name("accounting", stage.plan.launch_id) in databases(stage.server)


@pytest.mark.slow
def test_commands_lead_the_application_there_and_back_through_kills_at_many_boundaries(
    make_stage: Callable[..., Stage], other: Server, tmp_path: Path
) -> None:
    led = tmp_path / "led"
    commands = f'lead = ["sh", "-c", "echo there >> {led}"]\nlead_back = ["sh", "-c", "echo back >> {led}"]\n'
    stage = make_stage(lines=500, change=far(other, commands))
    prepare(stage, other)
    carried_through(
        stage,
        other,
        ["choose-twin:applied", "final-snapshot:applied", "seed-twin:applied", "seed-twin:recorded", "arm:applied"],
        [
            "back-fence:applied",
            "back-carry:applied",
            "back-swap:applied",
            "back-lead:applied",
            "back-between:applied",
            "back-unfence:applied",
            "back-check:applied",
        ],
        turned=True,
    )
    words = led.read_text().split()
    assert words.index("back") > 0 and words[-1] == "there"


@pytest.mark.slow
def test_an_abort_leaves_nothing_on_the_other_server(make_stage: Callable[..., Stage], other: Server) -> None:
    stage = make_stage(lines=500, change=far(other))
    prepare(stage, other)
    before = databases(other)
    killed_at(stage, "prove-quiet:applied", "launch", "--now")
    assert len(databases(other) - before) == 1
    ordered(stage, "abort")
    assert databases(other) == before and left(stage.server) == [] and left(other) == []
    assert release_that_answers(stage) == "1.0"


def launched_while_away(make_stage: Callable[..., Stage], other: Server) -> tuple[Stage, set[str]]:
    """A launch whose other server goes away before its window; and the databases that were there before it."""
    stage = make_stage(lines=500, change=far(other))
    prepare(stage, other)
    before = databases(other)
    killed_at(stage, "gate-stop:recorded", "launch", "--now")
    other.stop("immediate")
    ordered(stage, "launch", "--now")
    return stage, before


@pytest.mark.slow
def test_a_server_that_goes_away_costs_the_window_a_copy_and_keeps_nothing_once_it_is_back(
    make_stage: Callable[..., Stage], other: Server
) -> None:
    stage, before = launched_while_away(make_stage, other)
    twin = evidence(stage, "twin")
    assert twin["kind"] == "template" and twin["server"] is None
    assert f"127.0.0.1:{other.port}" in twin["fallen_back"], twin
    other.start()
    assert len(databases(other) - before) == 1
    retired = stage.safepoint("retire", "--now", capture=True)
    assert f"removed from 127.0.0.1:{other.port}" in " ".join(retired.stdout.split()), retired.stdout + retired.stderr
    assert databases(other) == before and left(stage.server) == [] and left(other) == []


@pytest.mark.slow
def test_a_rollback_removes_what_was_given_up_there_or_says_that_it_may_stand(
    make_stage: Callable[..., Stage], other: Server
) -> None:
    stage, before = launched_while_away(make_stage, other)
    killed_at(stage, "back-forget:applied", "rollback")
    other.start()
    assert len(databases(other) - before) == 1
    ordered(stage, "rollback")
    assert f"is removed from 127.0.0.1:{other.port}" in evidence(stage, "back-forget")["summary"]
    assert databases(other) == before and left(other) == []


@pytest.mark.slow
def test_who_would_not_get_in_there_is_told_before_the_window_and_before_a_rollback(
    make_stage: Callable[..., Stage], other: Server
) -> None:
    stage = make_stage(lines=500, change=far(other))
    prepare(stage, other)

    def password(words: str) -> None:
        with psycopg.connect(**other.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
            connection.execute(f"ALTER ROLE accounting PASSWORD '{words}'".encode())

    def the_twin() -> str:
        found = json.loads(stage.safepoint("doctor", "--json", capture=True).stdout)["findings"]
        return next(one["message"] for one in found if one["check"] == "twin")

    right = urlsplit(stage.environment["DATABASE_URL"]).password
    password("another")
    assert "1.0 would not get in on" in the_twin() and "password authentication failed" in the_twin()
    password(str(right))
    assert "kept level before the window" in the_twin()
    # Changed between the choice and the gate: a person hears of it while the site is open, and the twin is copied here.
    killed_at(stage, "seed-twin:recorded", "launch", "--now")
    password("another")
    asked = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert asked.returncode == 4 and "1.0 would not get in on" in asked.stdout, asked.stdout + asked.stderr
    assert release_that_answers(stage) == "1.0"
    password(str(right))
    ordered(stage, "abort")
    ordered(stage, "launch", "--again", "--now")
    assert evidence(stage, "twin")["server"] == f"127.0.0.1:{other.port}"
    # A terminal without the password for that server: it would close the site, and carry nothing.
    for env, said in (({"FAR_PASSWORD": "another"}, "password authentication failed"), ({}, "FAR_PASSWORD")):
        known = stage.environment.pop("FAR_PASSWORD")
        refused = stage.safepoint("rollback", "--plain", capture=True, env=env)
        stage.environment["FAR_PASSWORD"] = known
        assert refused.returncode in (1, 2) and said in refused.stderr, refused.stdout + refused.stderr
        assert "Nothing is begun" in refused.stderr and release_that_answers(stage) == "2.0"
    ordered(stage, "rollback")
    assert release_that_answers(stage) == "1.0"
