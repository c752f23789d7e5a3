"""The state folder is away (its disk is not mounted, this is another machine), and its launch stands on the server:
an order is not told that nothing has begun.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commanded import safepoint
from plan_file import PASSWORD_ENV, plan_file
from psycopg import sql

from safepoint.errors import Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import twin_name


@pytest.mark.parametrize("word", ["rollback", "abort", "go", "retire"])
def test_an_order_to_a_launch_whose_state_is_away_says_so(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, str(database.password))
    plan = plan_file(tmp_path, database)
    said = safepoint(plan, word).exception
    assert isinstance(said, Refused) and said.message.endswith("has not begun.")
    twin = sql.Identifier(twin_name(database.dbname, plan.launch_id))
    with connect(database.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(twin))
        try:
            said = safepoint(plan, word).exception
        finally:
            connection.execute(sql.SQL("drop database {}").format(twin))
    assert isinstance(said, Refused) and "was begun before, from another state folder" in said.message, said
    assert twin.as_string() == f'"{str(said.found).removeprefix("the database ")}"'
    assert str(said.remedy).startswith("Go on with it") and str(plan.state) in str(said.remedy)
