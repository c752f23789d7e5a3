"""A launch is retired that was rolled back, as the one before it was: nothing of either stays in the database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launched_twice import rolled_back
from least_plan import SOMEDAY
from replay_ground import LAUNCH, ask

from safepoint.config import load
from safepoint.launch.begin import launch_folder
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.retire import retire
from safepoint.launch.whose import owner_of
from safepoint.postgres.target import Target
from safepoint.wayback.replay.stash_schema import schema_name
from safepoint.wayback.stash.stash import MANIFEST, read_stashes


@pytest.mark.parametrize("whose", ["ours", "of another application"])
def test_stashes_that_wait_again_leave_the_database_with_the_launch_that_had_taken_them_up(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    write = "insert into tag (name) values ('mine')"
    with rolled_back(database, tmp_path, write) as (made, stash):
        live = made.twin
        monkeypatch.setenv("SHOP_PASSWORD", live.password or "")
        text = SOMEDAY.format(port=live.port).replace('name = "shop"\nhost', f'name = "{live.dbname}"\nhost')
        (tmp_path / "launch.toml").write_text(text.replace("[launch]", '[launch]\nstate = "."', 1))
        plan = load(tmp_path / "launch.toml")
        manifest = stash.folder / MANIFEST
        owner = owner_of(plan) if whose == "ours" else "other/db"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "owner": owner}))
        assert [(one.launch_id, one.owner) for one in read_stashes(plan.state)] == [(LAUNCH, owner)]
        with Ledger(launch_folder(plan) / "ledger.jsonl") as ledger:
            ledger.append("launch", "launch", {"plan": make_plan(plan).as_json()})
            ledger.append("run", "run:1", {"run": 1})
            ledger.append("end", "end:1", {"run": 1, "status": "rolled back", "reason": ""})
        done = retire(plan, hurry=True)["done"]
        there = ask(live, f"select to_regnamespace('{schema_name(LAUNCH)}') is not null")
        assert there == [(whose != "ours",)], done
        assert (f"The stash's schema {schema_name(LAUNCH)} is removed; its files stay." in done) == (whose == "ours")
        assert stash.rows.exists()
