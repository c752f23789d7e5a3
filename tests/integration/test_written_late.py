"""What somebody whom the fence does not hold writes between a rollback's last drain and its swap is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground
from test_carried_before import Rollback, told
from test_rollback_held import before_its_swap

from safepoint.launch.step import Evidence
from safepoint.postgres.target import Target
from safepoint.wayback.affected.fates import LATE
from safepoint.wayback.capture.capture import How, drain


@BOTH
def test_it_is_told_as_not_carried_and_why(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        made.write("insert into customer (id, name) values (101, 'in time')")
        rollback = before_its_swap(made, monkeypatch)
        drained = drain(made.live, made.facts, made.spool)
        rollback.done("back-drain", "drain", lambda _: Evidence("", {"drained": drained.as_json()}))
        assert rollback.done("back-carry", "carry").facts["carried"] == 1
        made.write(
            "insert into customer (id, name) values (102, 'late')", "update customer set name = 'l' where id = 1"
        )
        after_its_swap(rollback, made.twin.dbname)
        fates = told(rollback, made)
        assert {key: fate for key, (fate, _) in fates.items()} == {
            "id=101": "carried",
            "id=102": "not carried",
            "id=1": "not carried",
        }
        assert fates["id=102"][1] == fates["id=1"][1] == LATE
        listed = rollback.ledger.entries[-1].data["evidence"]["summary"]
        assert "1 of them were committed after writes had been stopped" in listed


def after_its_swap(rollback: Rollback, name: str) -> None:
    database = rollback.plan.database.model_copy(update={"name": name})
    rollback.plan = rollback.plan.model_copy(update={"database": database})
