"""Somebody cancels what a rollback carries back, or it is chosen to end a deadlock: a person is asked, and it is
carried; to list all that was written would open the site without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ground

from safepoint.errors import StatementEnded
from safepoint.launch.step import Evidence
from safepoint.launch.verbs import carrying
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.twin.pair import Pair

WAITING = """
SELECT pid FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND application_name = 'safepoint replay' AND datname = %s
"""


class Proven:
    """What the step asks of its launch before it carries."""

    discards = False
    launch_id = LAUNCH

    def __init__(self, made: Ground) -> None:
        self.standing = Pair(made.live, made.twin, LAUNCH)

    def fact(self, _name: str) -> dict[str, Any]:
        return {"proven": True, "mode": "logical"}


def step(monkeypatch: pytest.MonkeyPatch, made: Ground, error: BaseException) -> Evidence:
    """What the step makes of that error."""

    def raised(*_: object) -> None:
        raise error

    monkeypatch.setattr(carrying, "_carried", raised)
    ground: Any = Proven(made)
    return carrying.Carry().apply(ground)


def _waits(watching: Connection, twin: str) -> int:
    deadline = time.monotonic() + 20
    while (row := watching.execute(WAITING, [twin]).fetchone()) is None:
        assert time.monotonic() < deadline, "the replay does not wait"
        time.sleep(0.02)
    return int(row[0])


def _cancelled(made: Ground, holder: Connection, watching: Connection) -> None:
    """As a job does that ends long queries."""
    holder.execute("lock table customer in row exclusive mode")
    watching.execute("select pg_cancel_backend(%s)", [_waits(watching, made.twin.dbname)])


def _deadlocked(made: Ground, holder: Connection, watching: Connection) -> None:
    """Who waits for the replay's own lock, and holds one that it waits for; PostgreSQL ends who looked first."""
    holder.execute("set deadlock_timeout = '10min'")
    holder.execute("lock table purchase in row exclusive mode")
    _waits(watching, made.twin.dbname)
    holder.execute("lock table customer in row exclusive mode")


@pytest.mark.parametrize("how", [_cancelled, _deadlocked])
def test_a_carrying_that_somebody_ended_is_asked_about_and_carried_then(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[..., None]
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values ('a')", "update purchase set total = 9 where id = 1")
        made.drain()
        found: list[BaseException] = []

        def replayed() -> None:
            try:
                made.replay()
            except StatementEnded as error:
                found.append(error)

        with connect(made.twin, autocommit=False) as holder, connect(made.twin.on("postgres")) as watching:
            replay = threading.Thread(target=replayed)
            replay.start()
            how(made, holder, watching)
            replay.join(30)
        (ended,) = found
        asked = step(monkeypatch, made, ended)
        assert asked.verdict == "inconclusive" and "`safepoint retry` carries it" in asked.summary
        outcome = made.replay()
        assert (outcome.transactions, outcome.carried) == (1, 1)
        assert made.old("select name from customer where id = 6") == [("a",)]
