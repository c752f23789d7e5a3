"""A rollback that is killed where it keeps its stash: run again, it knows as much as the first time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.config.load import parse
from safepoint.launch.verbs import stashing
from safepoint.launch.verbs.carrying import PROOF
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.stash.stash import MANIFEST, TAKEN, read_stashes


class Killed(BaseException):
    """The process ends here."""


def stash_taken_by(state: Path, launch_id: str) -> None:
    folder = state / "stash" / "accounting-1.9"
    folder.mkdir(parents=True)
    about: dict[str, Any] = {"tables": {}, "identities": {}, "sequences": {}}
    about |= {"format": 1, "launch": "accounting-1.9", "release": "1.9", "sha256": "0"}
    (folder / MANIFEST).write_text(json.dumps({**about, "made_at": "2026-01-01T00:00:00+00:00"}))
    (folder / TAKEN).write_text(json.dumps({"launch": launch_id}))


def test_that_earlier_stashes_wait_again_is_known_also_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = parse(text.replace("[launch]", f'[launch]\nstate = "{tmp_path}"'), tmp_path / "launch.toml")
    ground = ground_at(plan, Story(tmp_path / "ledger.jsonl"), "survey")
    ground.record(PROOF, {"proven": True, "mapping": WayBack(()).as_json()})
    stash_taken_by(plan.state, plan.launch_id)
    told: list[bool] = []

    def keep(*_: object, again: bool, **_more: object) -> None:
        told.append(again)
        if len(told) == 1:
            raise Killed

    monkeypatch.setenv("SAFEPOINT_DB_PASSWORD", "unused")
    monkeypatch.setattr(stashing, "carried_files", lambda _: {"stash": tmp_path / "none"})
    monkeypatch.setattr(stashing.stash, "keep_stash", keep)
    with pytest.raises(Killed):
        stashing.KeepStash().apply(ground)
    # With nothing of its own to put away it is kept all the same: an emptied table says something to what waits again.
    done = stashing.KeepStash().apply(ground)
    assert told == [True, True]
    assert done.facts["again"] == ["accounting-1.9"]
    assert [one.taken_by for one in read_stashes(plan.state)] == [None]
