"""A launch whose way back is not proven takes up a stash, too: it asks the new release what columns have by default."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.config.load import parse
from safepoint.django.operations import NONE, StateColumn, StateTable
from safepoint.launch.verbs import stashing
from safepoint.launch.verbs.carrying import PROOF
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.stash.left import Reattached

AFTER = {"entry": StateTable("shop.entry", {"currency": StateColumn("text", False, False, False, None, "EUR")})}
STATE = {**NONE.as_json(), "after": {"entry": {"model": "shop.entry", "columns": {}}}}
PROVEN = {"proven": True, "mapping": WayBack(()).as_json(), "operations": STATE}
EUR = {"entry": {"currency": "EUR"}}


@pytest.mark.parametrize(
    ("proof", "known"),
    [(None, EUR), ({"proven": False, "reasons": ["accepted"]}, EUR), (PROVEN, {"entry": {}})],
    ids=["left out", "waived", "proven"],
)
def test_what_columns_have_by_default_is_known_without_a_proof(
    proof: dict[str, Any] | None, known: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = parse(text.replace("[launch]", f'[launch]\nstate = "{tmp_path}"'), tmp_path / "launch.toml")
    ground = ground_at(plan, Story(tmp_path / "ledger.jsonl"), "survey")
    if proof is not None:
        ground.record(PROOF, proof)
    told: list[object] = []

    def attach(_migrated: object, _old: object, _found: object, defaults: object, **_more: object) -> Reattached:
        told.append(defaults)
        return Reattached(("before",), 0, 0, 0, 0)

    monkeypatch.setenv("SAFEPOINT_DB_PASSWORD", "unused")
    monkeypatch.setattr(stashing, "entering", lambda *_: nullcontext())
    monkeypatch.setattr(stashing, "read_catalogue", lambda _: None)
    monkeypatch.setattr(stashing, "migrating", lambda _: None, raising=False)
    monkeypatch.setattr(stashing, "read_operations", lambda *_, **__: SimpleNamespace(after=AFTER), raising=False)
    monkeypatch.setattr(stashing, "reattach", attach)
    monkeypatch.setattr(stashing, "forget_mark", lambda *_: None)
    monkeypatch.setattr(stashing.stash, "waiting", lambda *_: [SimpleNamespace(launch_id="before")])
    monkeypatch.setattr(stashing.stash, "take", lambda *_: None)
    stashing.Reattach().apply(ground)
    assert told == [known]
