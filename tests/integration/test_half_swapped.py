"""A rollback to another server that ended when one database had left the live name, and the twin had not taken it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from least_plan import SOMEDAY
from postgres_servers import Servers
from psycopg import sql

from safepoint.config.load import parse
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.step import PlannedStep
from safepoint.launch.undo import way_forth
from safepoint.launch.verbs import verb
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence import fence
from safepoint.wayback.names import kept_name, twin_name
from safepoint.wayback.sessions import database_oid
from safepoint.wayback.twin.twin import TwinFacts

SERVER = '\n[wayback.server]\nhost = "127.0.0.1"\nport = {port}\nuser = "postgres"\npassword_env = "SHOP_PASSWORD"\n'
AT_THE_DATABASES = ("forth-fence", "forth-between", "forth-settled", "forth-swap", "forth-unfence")


def oid(target: Target) -> int | None:
    with connect(target.on("postgres")) as connection:
        return database_oid(connection, target.dbname)


def test_a_return_from_between_the_two_renames_gives_the_migrated_database_its_place_again(
    servers: Servers, new_database: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "only-for-tests")
    here, there = servers(17), servers(18)
    plan = parse(SOMEDAY.format(port=here.port) + SERVER.format(port=there.port), tmp_path / "launch.toml")
    live = new_database(here, "shop")
    twin = new_database(there, twin_name("shop", plan.launch_id))
    ledger = Ledger(tmp_path / "ledger.jsonl")

    def ground(step: PlannedStep) -> Ground:
        words = {"background": Background(), "interrupted": threading.Event(), "hurry": False}
        return Ground(plan, plan.launch_id, ledger, step, tell=lambda *_: None, **words)  # type: ignore[arg-type]

    steps = {step.id: step for step in way_forth(make_plan(plan), ["back-stop-traffic"])}
    made = ground(steps["forth-fence"])
    twin_facts = TwinFacts(
        plan.launch_id, "shop", oid(live) or 0, twin.dbname, oid(twin) or 0, "0/1", 0, 0, 0, 0.0, 0.0, server="there"
    )
    made.record("twin", twin_facts.as_json())
    made.record("unfenced", {})
    made.record("back-fence", fence.survey_fence(live, ()).as_json())
    kept = live.on(kept_name("shop", plan.launch_id))
    with connect(live.on("postgres")) as connection:
        connection.execute(sql.SQL("alter database shop rename to {}").format(sql.Identifier(kept.dbname)))
    assert (oid(live), oid(live.on(kept.dbname)), oid(twin)) == (None, twin_facts.live_oid, twin_facts.twin_oid)
    try:
        for one in AT_THE_DATABASES:
            verb(steps[one].verb).apply(ground(steps[one]))
        assert (oid(live), oid(kept), oid(twin)) == (twin_facts.live_oid, None, twin_facts.twin_oid)
        assert oid(twin.on("shop")) is None
    finally:
        if oid(live) is None:
            with connect(live.on("postgres")) as connection:
                connection.execute(sql.SQL("alter database {} rename to shop").format(sql.Identifier(kept.dbname)))
