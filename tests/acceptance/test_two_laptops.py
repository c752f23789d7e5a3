"""Two laptops, two state folders, one database: only one of them conducts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import forked
import psycopg
import pytest
from scene import application_may_write, release_that_answers, slots_and_roles_left, unproven, until
from stage import Stage

from safepoint.config import Database
from safepoint.errors import Refused, SafepointError
from safepoint.launch.begin import entries_of
from safepoint.launch.faults import VARIABLE
from safepoint.launch.guard import HOLDERS, Guard, Holder, key_of, session_name
from safepoint.launch.lock import held
from safepoint.launch.runs import person
from safepoint.postgres.target import Target
from safepoint.postgres.target import target as target_of
from safepoint.wayback.names import twin_name

SAFEPOINT = str(Path(sys.executable).parent / "safepoint")
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'safepoint conductor %'"


def asking_first(text: str) -> str:
    """The demo's plan with a person at the gate before the window: there a conductor goes no further."""
    return unproven(text) + '\n[gates]\nstop = "person"\n'


def other_laptop(stage: Stage) -> Path:
    """The same plan file with a state folder of its own."""
    plan = stage.folder / "other-laptop.toml"
    plan.write_text(stage.plan_path.read_text().replace(f'state = "{stage.folder}/state"', 'state = "other-state"'))
    assert 'state = "other-state"' in plan.read_text()
    return plan


def on(stage: Stage, plan: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    said = stage.folder / f"other-{time.monotonic_ns()}"
    words = (*words, "--plan", str(plan))
    return forked.safepoint(
        words, {**stage.environment, **(env or {})}, said.with_suffix(".out"), said.with_suffix(".err")
    )


@contextmanager
def waiting_conductor(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """A conductor in a process of its own that waits: it was told to hold, before anything takes time."""
    process = subprocess.Popen(
        [SAFEPOINT, "launch", "--now", "--plain", "--plan", str(stage.plan_path)],
        env={**os.environ, **stage.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def waits() -> bool:
        return bool(conductors(stage)) and any(entry.kind == "ask" for entry in entries_of(stage.plan))

    try:
        assert until(lambda: conductors(stage) or process.poll() is not None)
        # It takes none before its run is recorded.
        assert until(lambda: on(stage, stage.plan_path, "hold").returncode == 0 or process.poll() is not None)
        assert until(lambda: waits() or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def conductors(stage: Stage, but: int = 0) -> list[int]:
    """The sessions of conductors in the server."""
    with psycopg.connect(**stage.server.target.conninfo()) as connection:  # type: ignore[arg-type]
        return [row[0] for row in connection.execute(SESSIONS).fetchall() if row[0] != but]


@pytest.mark.slow
def test_the_second_laptop_is_refused_by_name_until_the_first_lets_go(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=asking_first)
    second = other_laptop(stage)
    with waiting_conductor(stage) as first:
        refused = on(stage, second, "launch", "--now", "--json")
        assert refused.returncode == 3, refused.stdout + refused.stderr
        message = json.loads(refused.stdout)["message"]
        assert "Another conductor is at work on the database accounting" in message
        assert f"accounting-2.0-20260301 {person()}" in message
        assert "127.0.0.1" in message and " UTC " in message

        # PostgreSQL is restarted: the first takes the guard again, and the second is refused as before.
        stage.server.stop()
        stage.server.start()
        assert until(lambda: conductors(stage), 10)
        assert on(stage, second, "launch", "--now").returncode == 3
        a_conductor_whose_guard_went_to_another_leaves_and_records_nothing(stage, first)

    with waiting_conductor(stage) as first:
        first.send_signal(signal.SIGKILL)
    went_on = on(stage, second, "launch", "--now", "--plain", "--no-wait")
    assert went_on.returncode == 4, went_on.stdout + went_on.stderr
    what_the_second_carried_out_is_not_gone_on_with_by_the_first(stage, second)


def what_the_second_carried_out_is_not_gone_on_with_by_the_first(stage: Stage, second: Path) -> None:
    assert on(stage, second, "go").returncode == 0
    launched = on(stage, second, "launch", "--now", "--plain")
    assert launched.returncode == 0, launched.stdout + launched.stderr
    twin = twin_name("accounting", stage.plan.launch_id)
    for word in ("launch", "abort"):  # the one would replace the twin by a copy at 2.0, the other drop it
        refused = on(stage, stage.plan_path, word, "--json")
        assert refused.returncode == 3, refused.stdout + refused.stderr
        said = json.loads(refused.stdout)
        assert "gone on with from another state folder" in said["message"] and twin in said["found"], said
    assert release_that_answers(stage) == "2.0"
    # A third one has a copy of the second one's state, and does not hear of its rollback.
    shutil.copytree(stage.folder / "other-state", stage.folder / "third-state")
    third = stage.folder / "third-laptop.toml"
    third.write_text(second.read_text().replace('"other-state"', '"third-state"'))
    rolled_back = on(stage, second, "rollback", "--plain")
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    refused = on(stage, third, "rollback", "--plain")  # it would close the site, and find no twin
    assert refused.returncode == 3 and "gone on with from another" in refused.stderr, refused.stdout + refused.stderr
    assert release_that_answers(stage) == "1.0"


def a_conductor_whose_guard_went_to_another_leaves_and_records_nothing(
    stage: Stage, first: subprocess.Popen[str]
) -> None:
    before = len(entries_of(stage.plan))
    server = stage.server.target.conninfo()
    name = "safepoint conductor accounting-2.0 ann@elsewhere"
    with (
        psycopg.connect(**server, autocommit=True, application_name=name) as other,  # type: ignore[arg-type]
        psycopg.connect(**server, autocommit=True) as admin,  # type: ignore[arg-type]
    ):
        take = "SELECT pg_try_advisory_lock(%s, %s)"
        deadline = time.monotonic() + 20
        while other.execute(take, key_of("accounting")).fetchone() != (True,) and time.monotonic() < deadline:
            for pid in conductors(stage, but=other.info.backend_pid):
                admin.execute("SELECT pg_terminate_backend(%s, 2000)", (pid,))
        said = first.communicate(timeout=20)[0]
    assert first.returncode == 3, said
    assert "ann@elsewhere" in said
    assert len(entries_of(stage.plan)) == before
    assert not held(stage.plan.conductor_lock)


@pytest.mark.slow
def test_an_abort_needs_no_database_and_a_launch_is_not_begun_again_elsewhere(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=unproven)
    killed = stage.safepoint("launch", "--now", "--plain", capture=True, env={VARIABLE: "stop-traffic:applied"})
    assert killed.returncode == -signal.SIGKILL
    stage.server.stop()
    aborted = stage.safepoint("abort", "--plain", capture=True)
    assert aborted.returncode == 0, aborted.stdout + aborted.stderr
    assert stage.router.state().mode == "open"
    stage.server.start()

    words = ("launch", "--again", "--now", "--plain")
    killed = stage.safepoint(*words, capture=True, env={VARIABLE: "twin:applied"})
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    second = on(stage, other_laptop(stage), "launch", "--now", "--json")
    assert second.returncode == 3, second.stdout + second.stderr
    said = json.loads(second.stdout)
    assert "begun before, from another state folder" in said["message"]
    assert "the database accounting_twin_" in said["found"] and "fence" in said["found"]
    assert release_that_answers(stage) is None
    aborted = stage.safepoint("abort", "--plain", capture=True)
    assert aborted.returncode == 0, aborted.stdout + aborted.stderr
    assert release_that_answers(stage) == "1.0"
    assert application_may_write(stage)
    assert slots_and_roles_left(stage) == ([], [])
    again = stage.safepoint("abort", "--json", capture=True)
    assert again.returncode == 3
    assert "over already" in json.loads(again.stdout)["message"]


# The guard itself, without a launch around it.


@pytest.fixture
def guard_of(database: Target) -> Iterator[Callable[..., Guard]]:
    guards: list[Guard] = []

    def make(who: str, target: Target = database, maintenance: str = "postgres") -> Guard:
        guards.append(Guard(lambda: target, maintenance, "accounting-2.0", who))
        return guards[-1]

    yield make
    for guard in guards:
        guard.release()


def holders(database: Target) -> list[Holder]:
    with psycopg.connect(**database.conninfo()) as connection:  # type: ignore[arg-type]
        return [Holder(*row) for row in connection.execute(HOLDERS, key_of(database.dbname)).fetchall()]


def test_a_guard_is_held_until_it_is_released(guard_of: Callable[..., Guard], database: Target) -> None:
    ann, bob = guard_of("ann@one"), guard_of("bob@two")
    ann.take()
    with pytest.raises(Refused, match="ann@one"):
        bob.take()
    ann.release()
    assert holders(database) == []
    bob.take()
    assert bob.held and not ann.held


def test_a_plan_file_with_another_maintenance_database_does_not_walk_past_it(
    guard_of: Callable[..., Guard],
) -> None:
    guard_of("ann@one").take()
    with pytest.raises(Refused, match="ann@one"):
        guard_of("bob@two", maintenance="template1").take()


def test_guards_of_different_databases_do_not_meet(guard_of: Callable[..., Guard], database: Target) -> None:
    ann, bob = guard_of("ann@one"), guard_of("bob@two", target=database.on("another"))
    ann.take()
    bob.take()
    assert ann.held and bob.held


def test_a_session_that_was_ended_is_taken_again_and_one_that_someone_else_took_is_told(
    guard_of: Callable[..., Guard], database: Target
) -> None:
    ann = guard_of("ann@one")
    ann.take()
    with psycopg.connect(**database.conninfo(), autocommit=True) as admin:  # type: ignore[arg-type]
        (former,) = holders(database)
        admin.execute("SELECT pg_terminate_backend(%s, 2000)", (former.pid,))
        assert until(lambda: [one.pid for one in holders(database)] not in ([], [former.pid]), 5)
        assert ann.held and ann.refusal is None
        with psycopg.connect(  # type: ignore[call-overload]
            **database.on("postgres").conninfo(), autocommit=True, application_name=session_name("x", "bob@two")
        ) as bob:
            (again,) = holders(database)
            admin.execute("SELECT pg_terminate_backend(%s, 2000)", (again.pid,))
            while bob.execute("SELECT pg_try_advisory_lock(%s, %s)", key_of(database.dbname)).fetchone() != (True,):
                admin.execute("SELECT pg_terminate_backend(%s, 2000)", (holders(database)[0].pid,))
            assert until(lambda: ann.refusal, 5)
            assert "bob@two" in str(ann.refusal)


def test_a_conductor_that_is_no_superuser_is_guarded_too(guard_of: Callable[..., Guard], database: Target) -> None:
    with psycopg.connect(**database.conninfo(), autocommit=True) as admin:  # type: ignore[arg-type]
        admin.execute("CREATE ROLE plain_conductor LOGIN PASSWORD 'plain-for-tests'")
        plain = database.login("plain_conductor", "plain-for-tests")
        try:
            first, second = guard_of("ann@one", target=plain), guard_of("bob@two", target=plain)
            first.take()
            first.refuse_remains(list)
            with pytest.raises(Refused, match="ann@one"):
                second.take()
            with pytest.raises(Refused, match="ann@one"):
                guard_of("superuser@three").take()
            first.release()
            guard_of("superuser@three").take()
            with pytest.raises(Refused, match="superuser@three"):
                second.take()
        finally:
            first.release()
            admin.execute("DROP ROLE plain_conductor")


def test_a_database_that_cannot_be_reached_refuses_nobody(guard_of: Callable[..., Guard], database: Target) -> None:
    guard = guard_of("ann@one", target=replace(database, port=1))
    guard.take()
    assert not guard.held and guard.refusal is None


@pytest.mark.parametrize("variable", ["FOR_TESTS_UNSET", "FOR_TESTS_WRONG", None, "FOR_TESTS_TLS"])
def test_a_server_that_refuses_the_conductors_login_refuses_the_conductor(
    guard_of: Callable[..., Guard], database: Target, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.setenv("FOR_TESTS_WRONG", "not-the-password")
    monkeypatch.setenv("FOR_TESTS_TLS", str(database.password))
    plan = Database(
        name=database.dbname,
        host=database.host,
        port=database.port,
        user=database.user,
        password_env=variable,
        sslmode="require" if variable == "FOR_TESTS_TLS" else "prefer",  # this server has no certificate
        application_roles=("x",),
    )
    guard = Guard(lambda: target_of(plan), "postgres", "accounting-2.0", "ann@one")
    with pytest.raises(SafepointError, match="Nothing was done: things stand as") as told:
        guard.take()
    assert not guard.held and told.value.remedy and "not-the-password" not in str(told.value.as_json())


def test_the_name_of_the_session_fits_and_keeps_the_person() -> None:
    name = session_name("a-very-long-launch-id-that-goes-on-and-on-2.0-20260301", "ann@laptop-7.example.com")
    assert len(name.encode()) <= 63
    assert name.startswith("safepoint conductor a-very-long") and name.endswith(" ann@laptop-7.example.com")
    assert len(session_name("x" * 63, "ü" * 90).encode()) <= 63
