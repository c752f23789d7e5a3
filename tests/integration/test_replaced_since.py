"""After a launch another database may take the live one's place: `status` asks the server which one is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plan_file import PASSWORD_ENV, plan_file
from psycopg import sql

from safepoint.config import PlanFile
from safepoint.launch.ledger import Ledger
from safepoint.launch.replaced import left_live, replaced
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import database_oid


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        yield ledger


@pytest.fixture
def plan(database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanFile:
    monkeypatch.setenv(PASSWORD_ENV, str(database.password))
    return plan_file(tmp_path, database)


def done(ledger: Ledger, step: str, **facts: Any) -> None:
    data = {"run": 1, "evidence": {"summary": "", "verdict": "pass", **facts}}
    ledger.append("step.done", f"1:{step}:{len(ledger.entries)}:done", data, step=step)


def test_a_database_that_was_restored_in_its_place_is_told_with_the_name_of_the_former(
    ledger: Ledger, plan: PlanFile, database: Target
) -> None:
    live, kept = database.dbname, f"{database.dbname}_before"
    with connect(database.on("postgres")) as connection:
        done(ledger, "twin", live_oid=1)
        done(ledger, "back-swap", live_oid=database_oid(connection, live), server=None)
        assert replaced(plan, ledger.entries) is None
        rename = sql.SQL("alter database {} rename to {}").format(sql.Identifier(live), sql.Identifier(kept))
        connection.execute(rename)
        assert f"There is no database {live} now" in str(replaced(plan, ledger.entries))
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(live)))
        try:
            said = str(replaced(plan, ledger.entries))
            assert "is another database now than this launch left" in said and f"is kept as {kept}" in said
        finally:
            connection.execute(sql.SQL("drop database {}").format(sql.Identifier(kept)))
    assert "which is gone" in str(replaced(plan, ledger.entries))


def test_a_return_that_found_the_migrated_database_in_its_place_left_that_one(ledger: Ledger) -> None:
    assert left_live(ledger.entries) is None
    done(ledger, "twin", live_oid=11, twin_oid=12)
    done(ledger, "back-swap", live_oid=12, server=None)
    assert left_live(ledger.entries) == 12
    done(ledger, "forth-swap")
    assert left_live(ledger.entries) == 11


def test_on_another_server_the_plan_file_s_own_says_nothing(ledger: Ledger) -> None:
    done(ledger, "twin", live_oid=11)
    done(ledger, "back-swap", live_oid=12, server="db2:5432")
    assert left_live(ledger.entries) is None
