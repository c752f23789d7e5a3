"""The twin's server is gone for good between the two renames: the message has the statement, and what goes on then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from least_plan import SOMEDAY
from postgres_servers import Servers
from psycopg import sql
from test_half_swapped import AT_THE_DATABASES, SERVER

from safepoint.config.load import parse
from safepoint.errors import ServerAway
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.undo import way_forth
from safepoint.launch.verbs import verb
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import fence
from safepoint.wayback.names import kept_name
from safepoint.wayback.sessions import database_oid
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.swap import swap, unswap
from safepoint.wayback.twin.twin import TwinFacts

LAUNCH = "shop-2.0-20260301"


def run(target: Target, statement: str) -> None:
    with connect(target.on("postgres")) as connection:
        connection.execute(statement.encode())


def renamed(old: str, new: str) -> str:
    return sql.SQL("ALTER DATABASE {} RENAME TO {};").format(sql.Identifier(old), sql.Identifier(new)).as_string()


@pytest.mark.parametrize(("move", "then"), [(swap, "`safepoint return`"), (unswap, "`safepoint retry`")])
def test_who_is_left_without_a_live_name_is_told_which_statement_gives_it_back(
    servers: Servers, new_database: Callable[..., Target], move: Callable[..., object], then: str
) -> None:
    live = new_database(servers(17))
    kept = kept_name(live.dbname, LAUNCH)
    with connect(live.on("postgres")) as connection:
        oid = database_oid(connection, live.dbname) or 0
    facts = TwinFacts(LAUNCH, live.dbname, oid, "twin", 1, "0/1", 0, 0, 0, 0.0, 0.0, server="127.0.0.1:1")
    pair = Pair(live, replace(live.on("twin"), port=1), LAUNCH)  # nobody listens there
    with pytest.raises(ServerAway) as untouched:
        move(pair, facts)
    assert "RENAME" not in str(untouched.value)
    run(live, renamed(live.dbname, kept))
    try:
        with pytest.raises(ServerAway) as refusal:
            move(pair, facts)
        assert f"No database of {live.address} is called {live.dbname} now" in refusal.value.message
        said = str(refusal.value.remedy)
        assert (
            f"give on {live.address}, in its database postgres, {renamed(kept, live.dbname)}" in said and then in said
        )
    finally:
        run(live, renamed(kept, live.dbname))


def test_with_the_name_back_a_return_needs_that_server_for_nothing(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "only-for-tests")
    here = servers(17)
    plan = parse(SOMEDAY.format(port=here.port) + SERVER.format(port=1), tmp_path / "launch.toml")
    live = new_database(here, "shop")
    with connect(live.on("postgres")) as connection:
        oid = database_oid(connection, "shop") or 0
    facts = TwinFacts(plan.launch_id, "shop", oid, "twin", 1, "0/1", 0, 0, 0, 0.0, 0.0, server="127.0.0.1:1")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        words: Any = {"background": Background(), "interrupted": threading.Event(), "hurry": False}
        for step in way_forth(make_plan(plan), ["back-stop-traffic"]):
            ground = Ground(plan, plan.launch_id, ledger, step, tell=lambda *_: None, **words)
            if ground.fact("twin") is None:
                ground.record("twin", facts.as_json())
                ground.record("unfenced", {})
                ground.record("back-fence", fence.survey_fence(live, ()).as_json())
            if step.id in AT_THE_DATABASES:
                verb(step.verb).apply(ground)
