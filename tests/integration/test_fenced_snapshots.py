"""Snapshots of a launch's window: the fence would come back with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from awkward import run, snap
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import Servers, drop_database
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.launch.ledger import Ledger
from safepoint.launch.snapshots.restoring import restore_over
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

FENCE = "alter database {db} set default_transaction_read_only = on"


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")


def test_a_backup_in_a_launch_s_window_is_refused_and_before_and_after_it_is_taken(
    database: Target, tmp_path: Path
) -> None:
    plan = plan_file(tmp_path, database)
    words = ["backup", "--plan", str(tmp_path / "launch.toml")]
    with Ledger(plan.state / "launches" / "shop-2.0-20260301" / "ledger.jsonl") as ledger:
        ledger.append("run", "run:1", {"run": 1})
        run(database, FENCE.format(db=database.dbname))
        ledger.append("fact", "fact:1:fence", {"read_only": "on"})  # it is so for good
        assert CliRunner().invoke(app, words).exit_code == 0
        ledger.append("fact", "fact:2:fence", {"read_only": None})
    shutil.rmtree(plan.state / "snapshots")
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, "stopped by a launch" in str(refused.exception)) == (1, True)
    assert not (plan.state / "snapshots").exists()
    run(database, f"set transaction read write; alter database {database.dbname} reset default_transaction_read_only")
    assert CliRunner().invoke(app, words).exit_code == 0


def test_what_takes_the_live_one_s_place_and_is_read_only_says_so(
    database: Target, servers: Servers, tmp_path: Path
) -> None:
    plan = plan_file(tmp_path, database)
    run(database, FENCE.format(db=database.dbname))
    folder = snap(database, servers(17), tmp_path / "snapshots")
    done = restore_over(plan, folder)
    try:
        (told,) = done.placed.notes
        assert f'ALTER DATABASE "{database.dbname}" RESET default_transaction_read_only' in told
    finally:
        with connect(database.on("postgres")) as connection:
            for statement in done.undo:
                connection.execute(statement.encode())
        drop_database(database.on(done.placed.database))
