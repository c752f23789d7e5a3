"""A rollback that carries nothing finds a twin with what a follower has brought into it: that is told as carried."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from least_plan import SOMEDAY
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ground

from safepoint.config.load import parse
from safepoint.errors import LockNotAvailable
from safepoint.launch import ground as launching
from safepoint.launch.background import Background
from safepoint.launch.ledger import Ledger
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.verbs import carrying, verb
from safepoint.launch.wayback.proof_standing import PROOF
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import database_oid
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import TwinFacts


class Rollback:
    """The steps of a rollback whose databases bear the names that they have after its swap."""

    def __init__(self, made: Ground, monkeypatch: pytest.MonkeyPatch, *, discard: bool = False) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", str(made.live.password))
        text = SOMEDAY.format(port=made.live.port).replace('name = "shop"', f'name = "{made.twin.dbname}"', 1)
        self.plan = parse(text, made.folder / "launch.toml")
        for name, value in (
            ("standing", Pair(made.live, made.twin, LAUNCH)),
            ("kept", made.live.dbname),
            ("folder", made.folder),
        ):
            monkeypatch.setattr(launching.Ground, name, value)
        self.ledger = Ledger(made.folder / "ledger.jsonl")
        with connect(made.live.on("postgres")) as connection:
            live, twin = (database_oid(connection, one.dbname) or 0 for one in (made.live, made.twin))
        proof = {"proven": True, "mapping": made.mapping().as_json(), "operations": made.operations.as_json()}
        at = self.at("back-ahead", "carry-ahead")
        at.record("twin", TwinFacts(LAUNCH, "shop", live, made.twin.dbname, twin, "0/1", 0, 0, 0, 0, 0).as_json())
        at.record("capture", made.facts.as_json())
        at.record(PROOF, {**proof, "mappers": {}})
        order = {"order": "rollback", "by": "ann", "discard": discard}
        self.ledger.append("run", "run:1", {"run": 1, "course": "rollback", "order": order})
        self.ledger.append("wayback", "wayback:1", {"run": 1, "reason": "", "by": "ann", "steps": []})

    def at(self, step: str, name: str) -> launching.Ground:
        words: dict[str, Any] = {"background": Background(), "interrupted": threading.Event(), "hurry": False}
        planned = PlannedStep(step, name, "", "rollback")
        return launching.Ground(self.plan, LAUNCH, self.ledger, planned, tell=lambda *_: None, **words)

    def done(self, step: str, name: str, apply: Callable[[launching.Ground], Evidence] | None = None) -> Evidence:
        at = self.at(step, name)
        found = (apply or verb(name).apply)(at)
        kind = "done" if found.verdict == "pass" else "failed"
        self.ledger.append(f"step.{kind}", f"{step}:{kind}", {"run": 1, "evidence": found.as_json()}, step=step)
        return found


def told(rollback: Rollback, made: Ground) -> dict[str, tuple[str, str]]:
    """By a customer's key what the list says became of the row, and why."""
    rollback.done("back-list", "list-written")
    with (made.folder / "affected.csv").open(newline="") as file:
        return {row["key"]: (row["fate"], row["reason"]) for row in csv.DictReader(file)}


def followed(made: Ground) -> None:
    """One transaction is in the twin, and one came after it."""
    made.write("insert into customer (id, name) values (101, 'in the twin')")
    made.carry()
    made.write("insert into customer (id, name) values (102, 'later')")
    made.drain()


def in_vain(at: launching.Ground) -> Evidence:
    """As when somebody holds a lock in the twin, and a person says `go`."""
    return carrying._mendable(at, LockNotAvailable("A lock was not had.", subject="x"))


@pytest.mark.parametrize("why", ["discarded", "altered", "gone on without"])
def test_what_a_follower_brought_is_told_as_carried_whatever_the_rollback_carries(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        followed(made)
        rollback = Rollback(made, monkeypatch, discard=why == "discarded")
        if why == "altered":
            made.write("alter table purchase drop column body")
        if why == "discarded":
            asked = rollback.done("back-ahead", "carry-ahead")
            assert asked.verdict == "inconclusive" and "1 transactions are in the twin already" in asked.summary
        found = rollback.done("back-carry", "carry", in_vain if why == "gone on without" else None)
        assert "1 transactions were carried into the twin before and stay there" in found.summary, found
        assert found.facts["carried"] == 1
        fates = told(rollback, made)
        assert len(fates) == 2, fates
        (first, _), (second, reason) = fates.values()
        assert (first, second) == ("carried", "not carried") and reason.startswith("nothing more was carried back: ")
        assert rollback.done("back-stash", "keep-stash").verdict == "pass"
