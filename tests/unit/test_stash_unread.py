"""A stash whose manifest cannot be read when the launch re-attaches what waits: it is said, and is no nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from stories import PLAN_FILE, Story, ground_at

from safepoint.config.load import parse
from safepoint.launch.verbs.stashing import Reattach
from safepoint.wayback.stash.stash import MANIFEST


@pytest.mark.parametrize("how", ["damaged", "not given"])
def test_what_cannot_be_read_is_not_called_nothing(tmp_path: Path, how: str) -> None:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = parse(text.replace("[launch]", f'[launch]\nstate = "{tmp_path}"'), tmp_path / "launch.toml")
    ground = ground_at(plan, Story(tmp_path / "ledger.jsonl"), "survey")
    assert Reattach().apply(ground).summary == "nothing is put away"
    folder = tmp_path / "stash" / "accounting-1.9"
    folder.mkdir(parents=True)
    if how == "damaged":
        (folder / MANIFEST).write_text('{"format": 1, "launch": "acc')
    else:
        (folder / MANIFEST).symlink_to(MANIFEST)  # the system refuses it, also to a superuser
    found = Reattach().apply(ground)
    assert found.verdict == "pass" and f"NOT re-attached, for its manifest cannot be read: {folder}" in found.summary
    assert found.facts["unread"] == [str(folder)]
