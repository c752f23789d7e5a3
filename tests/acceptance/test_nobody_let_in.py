"""A rollback before anybody was let in: the application's workers have written already, and a return may go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from scene import POST, Scene, brisk, evidence, kill_at
from stage import Stage

from safepoint.launch.begin import entries_of


def failing_while(flag: Path) -> Callable[[str], str]:
    """A person says go for the canary; release 2.0 does not start as long as there is a file."""

    def change(text: str) -> str:
        head, tail = brisk(text).split("[releases.new]")
        start = f'start_timeout = "15s"\nstart = ["sh", "-c", "test -e {flag} || exec python \\"$@\\"", "sh", '
        tail = tail.replace('start = ["python", ', start, 1)
        return f'{head}[releases.new]{tail}\n[gates]\ncanary = "person"\n'

    return change


def entries_there(stage: Stage) -> int:
    return int(stage.query("SELECT count(*) FROM ledger_journalentry WHERE memo = 'by hand'")[0][0])


@pytest.mark.slow
def test_what_workers_wrote_is_carried_and_a_return_to_a_release_that_does_not_start_is_given_up(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    flag = tmp_path / "does-not-start"
    stage = make_stage(lines=500, change=failing_while(flag))
    waits = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert waits.returncode == 4 and "go for the canary" in waits.stdout.lower(), waits.stdout + waits.stderr
    with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as worker:
        for _ in range(3):
            worker.execute(POST.encode())
    kill_at(stage, "back-start-old:applied", "rollback")
    carried = evidence(stage, "back-carry")
    assert carried["carried"] == carried["transactions"] >= 3, carried
    assert entries_there(stage) == 3  # the twin is live for now
    flag.touch()
    scene = Scene(stage)
    try:
        live = scene.conduct("return")
        live.until("ask", "forth-start-new", 90)
        told = scene.status()
        assert [one["command"].split()[1] for one in told["standing"]["commands"]] == ["retry", "rollback"]
        assert told["standing"]["open"].startswith("Nobody")
        scene.seen = len(scene.entries)
        assert scene.run("rollback").code == 0
        ended = live.end()
    finally:
        scene.close()
    assert ended.code == 5 and "rolled back: rollback ordered by" in ended.text, ended.text
    assert scene.release() == "1.0" and entries_there(stage) == 3
    done = [entry.step for entry in entries_of(stage.plan) if entry.kind == "step.done"]
    assert done.count("back-swap") == 2 and "forth-open" not in done
    assert scene.left() == []
