"""A rollback carries what is there before it closes the site; until then nothing live is touched."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from broken_link import broken_link
from scene import POST, SAFEPOINT, brisk, conducting, evidence, kill_at, open_twin, release_that_answers
from small_disk import small_disk
from stage import Stage

from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.ledger import Entry
from safepoint.postgres.connections import connect


def post(stage: Stage, times: int, memo: str = "by hand") -> None:
    with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as connection:
        for _ in range(times):
            connection.execute(POST.replace("by hand", memo).encode())


def launched(make_stage: Callable[..., Stage]) -> Stage:
    """A stage whose launch is over, at release 2.0."""
    stage = make_stage(lines=500, change=brisk)
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    return stage


def with_one_unholdable(stage: Stage) -> None:
    """21 entries, of which the twin can hold 20."""
    post(stage, 20)
    post(stage, 1, "unholdable")
    with open_twin(stage) as twin:
        twin.execute("ALTER TABLE ledger_journalentry ADD CONSTRAINT holdable CHECK (memo <> 'unholdable')")


def all_but_one_at_once(stage: Stage) -> None:
    """That they were carried as one, once the site was closed."""
    carried = evidence(stage, "back-carry")
    assert carried["transactions"] - carried["carried"] == 1 and carried["now"] == carried["transactions"], carried
    memos = "SELECT memo, count(*) FROM ledger_journalentry WHERE memo IN ('by hand', 'unholdable') GROUP BY 1"
    assert stage.query(memos) == [("by hand", 20)]


def steps_begun(stage: Stage) -> list[str]:
    """The steps of the way back, and of turning it round, that were ever begun."""
    begun = [entry.step or "" for entry in entries_of(stage.plan) if entry.kind == "step.begun"]
    return [step for step in begun if step.startswith(("back-", "forth-"))]


def until_begun(stage: Stage, step: str, process: subprocess.Popen[bytes]) -> None:
    """Until the ledger, which nobody announces, has a step's begin; bounded by the life of who conducts it."""
    while step not in steps_begun(stage):
        assert process.poll() is None
        time.sleep(0.02)


def until_asked(stage: Stage, process: subprocess.Popen[bytes]) -> Entry:
    """The first question of the way back; bounded by the life of who conducts it."""
    while not (asked := [entry for entry in entries_of(stage.plan) if entry.kind == "ask"]):
        assert process.poll() is None, (stage.folder / "conducting.log").read_text()
        time.sleep(0.02)
    return asked[-1]


def ordered(stage: Stage, *words: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return conducting(stage, [SAFEPOINT], *words)


MANY = POST.replace("RETURNING id", "FROM generate_series(1, 40000) RETURNING id").replace(
    "'by hand'", "repeat('x', 99)"
)


def leave(file: Path, room: int) -> None:
    """Take all the room of a disk but so many bytes."""
    disk = os.statvfs(file.parent)
    with file.open("wb", buffering=0) as out:
        for _ in range((disk.f_bavail * disk.f_frsize - room) >> 16):
            out.write(bytes(1 << 16))


def test_a_spool_that_finds_no_room_is_asked_about_before_the_site_is_closed(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """It was left to the drain behind the closed site, for which there is no more room."""
    with small_disk(tmp_path / "disk", 100) as disk:
        stage = make_stage(
            lines=500, change=lambda text: re.sub(r'state = ".*"', f'state = "{disk}/state"', brisk(text))
        )
        assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
        (before,) = stage.query("SELECT count(*) FROM ledger_journalentry")[0]
        with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(MANY.encode())
        leave(disk / "full", 5_000_000)
        with ordered(stage, "rollback") as rollback:
            asked = until_asked(stage, rollback)
            assert asked.step == "back-ahead" and asked.data["choices"] == ["retry", "return"]
            assert "the site is open" in asked.data["question"] and "No space left" in asked.data["question"]
            assert release_that_answers(stage) == "2.0"
            (disk / "full").unlink()
            assert stage.safepoint("retry", capture=True).returncode == 0
            assert rollback.wait(120) == 0
        assert release_that_answers(stage) == "1.0"
        assert stage.query("SELECT count(*) FROM ledger_journalentry") == [(before + 40_000,)]


@pytest.mark.slow  # test_twin_elsewhere turns one round as well
def test_most_is_carried_while_the_site_is_open_and_who_turns_round_then_has_never_closed_it(
    make_stage: Callable[..., Stage],
) -> None:
    stage = launched(make_stage)
    post(stage, 300)
    kill_at(stage, "back-ahead:applied", "rollback")
    assert release_that_answers(stage) == "2.0"
    returned = stage.safepoint("return", "--plain", capture=True)
    assert returned.returncode == 0, returned.stdout + returned.stderr
    assert (steps_begun(stage), release_that_answers(stage)) == (["back-ahead", "forth-open"], "2.0")
    assert status_of(entries_of(stage.plan)) == "launched"
    post(stage, 7)
    done = stage.safepoint("rollback", "--plain", capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert evidence(stage, "back-ahead")["applied"] == 7  # the others were there already
    carried = evidence(stage, "back-carry")
    assert carried["carried"] == carried["transactions"] >= 307 and carried["now"] < 50, carried
    assert "while the site was open" in carried["summary"]
    assert stage.query("SELECT count(*) FROM ledger_journalentry WHERE memo = 'by hand'") == [(307,)]


@pytest.mark.slow
def test_what_cannot_be_carried_whole_waits_for_the_stop_and_an_order_closes_the_site_at_once(
    make_stage: Callable[..., Stage],
) -> None:
    stage = launched(make_stage)
    with_one_unholdable(stage)
    # Carried ahead it would wait for this lock.
    holding = open_twin(stage)
    holding.execute("LOCK TABLE ledger_journalline")
    with ordered(stage, "rollback") as rollback:
        until_begun(stage, "back-ahead", rollback)
        again = stage.safepoint("rollback", capture=True)  # a tired operator's second Enter
        assert again.returncode == 3 and "--stop-first" in again.stdout + again.stderr, again
        began = time.monotonic()
        assert stage.safepoint("rollback", "--stop-first", capture=True).returncode == 0
        until_begun(stage, "back-stop-traffic", rollback)
        assert time.monotonic() - began < 4  # sooner than the lock is given up
        assert "--stop-first" in evidence(stage, "back-ahead")["reason"]
        holding.close()
        code = rollback.wait(90)
    assert code == 0, (stage.folder / "conducting.log").read_text()
    all_but_one_at_once(stage)


@pytest.mark.slow
def test_a_batch_that_is_not_whole_is_left_to_the_replay_of_all_at_once(make_stage: Callable[..., Stage]) -> None:
    stage = launched(make_stage)
    with_one_unholdable(stage)
    done = stage.safepoint("rollback", "--plain", capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "carried as one once the site is closed" in evidence(stage, "back-ahead")["reason"]
    all_but_one_at_once(stage)


def test_a_full_disk_of_the_server_is_asked_about_while_the_site_is_open(make_stage: Callable[..., Stage]) -> None:
    """It was left to the replay behind the closed site, for which there was no more room."""
    stage = launched(make_stage)
    post(stage, 20)
    owner = stage.server.data.stat()
    with small_disk(stage.server.data.parent / "small", 1) as disk, connect(stage.server.target) as admin:
        os.chown(disk, owner.st_uid, owner.st_gid)
        admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
        with open_twin(stage) as twin:  # a replay stages what it has there
            name = twin.info.dbname
        admin.execute(f"ALTER DATABASE {name} SET temp_tablespaces = small".encode())
        leave(disk / "full", 0)
        with ordered(stage, "rollback") as rollback:
            asked = until_asked(stage, rollback)
            assert asked.step == "back-ahead" and asked.data["choices"] == ["retry", "return"], asked
            assert "disk is full" in asked.data["question"] and "the site is open" in asked.data["question"]
            assert release_that_answers(stage) == "2.0"
            (disk / "full").unlink()
            assert stage.safepoint("retry", capture=True).returncode == 0
            assert rollback.wait(120) == 0, (stage.folder / "conducting.log").read_text()
        assert release_that_answers(stage) == "1.0"
        admin.execute("ALTER DATABASE accounting RESET temp_tablespaces")
        admin.execute("DROP TABLESPACE small")


def test_a_server_that_is_lost_meanwhile_is_asked_about_while_the_site_is_open(
    make_stage: Callable[..., Stage],
) -> None:
    """The site was closed for a rollback that could not go on: the conductor had lost its link to the server."""
    stage = launched(make_stage)
    post(stage, 20)
    port = stage.server.target.port
    with broken_link(port, after=4_000, breaks=1 << 30, answers=True) as link:  # each look gets through, no drain does
        stage.plan_path.write_text(stage.plan_path.read_text().replace(f"port = {port}", f"port = {link.port}"))
        with ordered(stage, "rollback") as process:
            asked = until_asked(stage, process)
            assert asked.step == "back-ahead" and {"retry", "return"} <= set(asked.data["choices"]), asked
            assert "the site is open" in asked.data["question"]
            assert steps_begun(stage)[-1] == "back-ahead" and release_that_answers(stage) == "2.0"
            link.breaks = 0
            assert stage.safepoint("retry", capture=True).returncode == 0
            assert process.wait(120) == 0
    assert evidence(stage, "back-ahead")["applied"] >= 20
    assert release_that_answers(stage) == "1.0"
