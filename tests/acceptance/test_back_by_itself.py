"""A server that is away for longer than a step waits, in the middle of a rollback, and nobody is awake to answer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from scene import brisk, conducting, kill_at, release_that_answers, until
from stage import Stage

from safepoint.launch.begin import entries_of, open_question, status_of
from safepoint.launch.coming_back import BY

IMPATIENT = """
from safepoint.launch import coming_back, patience
patience.AWAY, coming_back.LOOKS = 1.0, 0.2
from safepoint import cli
cli.main()
"""


def impatient(stage: Stage, *words: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A command that conducts, and waits for a server for a second where it would for a minute."""
    return conducting(stage, [sys.executable, "-c", IMPATIENT], *words)


def asked_at(stage: Stage) -> str | None:
    question = open_question(entries_of(stage.plan))
    return None if question is None else question["step"]


def said(stage: Stage) -> str:
    return (stage.folder / "conducting.log").read_text()


def by_itself(stage: Stage) -> list[tuple[str | None, str]]:
    """The step and the order of each answer that nobody gave."""
    given = [entry for entry in entries_of(stage.plan) if entry.kind == "order" and entry.data["by"] == BY]
    assert {entry.data["fate"] for entry in given} <= {"taken"}
    return [(entry.step, entry.data["order"]) for entry in given]


def struck(stage: Stage) -> None:
    """A rollback whose conductor died with the site closed, and whose server has gone since."""
    kill_at(stage, "back-fence:begun", "rollback")
    stage.server.stop()


def test_a_rollback_goes_on_by_itself_once_the_server_answers_again(make_stage: Callable[..., Stage]) -> None:
    """It asked after a minute, and the site stayed closed for as long as the operator slept."""
    stage = make_stage(lines=500, change=brisk)
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    struck(stage)
    with impatient(stage, "rollback") as process:
        assert until(lambda: asked_at(stage) == "back-fence"), said(stage)
        assert stage.safepoint("return", capture=True).returncode == 0  # a person's order comes first
        assert until(lambda: asked_at(stage) == "forth-fence"), said(stage)
        stage.server.start()
        assert process.wait(120) == 1, said(stage)  # the rollback was turned round
    assert by_itself(stage) == [("forth-fence", "retry")]
    assert (status_of(entries_of(stage.plan)), release_that_answers(stage)) == ("launched", "2.0")
    struck(stage)
    with impatient(stage, "launch", "--no-wait") as process:  # as a service manager goes on with it
        assert until(lambda: asked_at(stage) == "back-fence"), said(stage)
        time.sleep(2)  # one that left with the question would be gone by then
        assert asked_at(stage) == "back-fence" and process.poll() is None
        told = " ".join(stage.safepoint("status", capture=True).stdout.split())
        assert "tries again by itself once PostgreSQL answers" in told, told
        stage.server.start()
        assert process.wait(120) == 5, said(stage)
    assert by_itself(stage) == [("forth-fence", "retry"), ("back-fence", "retry")]
    assert BY in said(stage) and BY in stage.safepoint("report", "--json", capture=True).stdout
    assert (status_of(entries_of(stage.plan)), release_that_answers(stage)) == ("rolled back", "1.0")
