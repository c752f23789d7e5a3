"""A launch that failed in its rehearsal, or its proof, goes on by the plan file that a person has corrected since."""

from __future__ import annotations

from pathlib import Path

from stories import PLAN_FILE, Story, ground_at

from safepoint.config.load import parse
from safepoint.launch.ground import Ground
from safepoint.launch.verbs.carrying import PROOF, ProveWayBack
from safepoint.launch.verbs.rehearsing import Rehearse


def ground(tmp_path: Path, step: str, more: str) -> Ground:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    begun = ground_at(parse(text, tmp_path / "launch.toml"), Story(tmp_path / "ledger.jsonl").begin(), step)
    begun.record(PROOF, {"proven": False, "reasons": ["no mapper"]})
    begun.plan = parse(text + more, tmp_path / "launch.toml")
    return begun


def test_a_rehearsal_that_is_not_required_any_more_is_not_made(tmp_path: Path) -> None:
    found = Rehearse().apply(ground(tmp_path, "rehearse", "[rehearsal]\nrequired = false\n"))
    assert found.verdict == "pass" and "required = false" in found.summary


def test_a_proof_that_was_given_up_is_not_made_and_nobody_is_told_that_it_is_proven(tmp_path: Path) -> None:
    begun = ground(tmp_path, "prove-way-back", "[wayback]\nprove = false\n")
    assert ProveWayBack().check(begun) is None
    found = ProveWayBack().apply(begun)
    assert found.verdict == "pass" and "carries nothing" in found.summary
