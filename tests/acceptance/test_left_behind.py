"""What the old release's workers write until the very end of a rollback that is turned round is listed, all of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql
from scene import application_may_write, kill_at, unproven
from stage import Stage

from safepoint.postgres.connections import connect
from safepoint.wayback.names import twin_name

NOTE = "INSERT INTO worker_note DEFAULT VALUES RETURNING id"


class Worker:
    """Writes all the time, by a session that stays as long as it is let in, and counts what was acknowledged."""

    def __init__(self, stage: Stage) -> None:
        self._url, self.acknowledged, self._over = stage.environment["DATABASE_URL"], set[int](), threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.is_set():
                try:
                    row = connection.execute(NOTE).fetchone()
                except psycopg.Error:
                    return
                self.acknowledged.add(row[0])  # type: ignore[index]


@pytest.mark.slow
def test_a_return_lists_what_workers_wrote_until_the_swap(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500, change=unproven)
    with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE worker_note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    assert stage.safepoint("launch", "--now", "--plain", capture=True).returncode == 0
    kill_at(stage, "back-start-old:recorded", "rollback")
    with Worker(stage) as worker:
        returned = stage.safepoint("return", "--plain", capture=True)
    assert returned.returncode == 0, returned.stdout + returned.stderr
    listed = (stage.launch_folder / "left-behind.csv").read_text().count(",worker_note,insert,")
    twin = stage.server.target.on(twin_name("accounting", stage.plan.launch_id))
    with connect(twin.on("postgres")) as admin:
        name = sql.Identifier(twin.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        kept = admin.execute("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 0").fetchall()
        assert not [one for one in kept if "default_transaction_read_only=on" in one[0]]
    with connect(twin) as connection:
        there = connection.execute("SELECT count(*) FROM worker_note").fetchone()
    assert there == (listed,) and listed >= len(worker.acknowledged) > 0
    assert application_may_write(stage)
