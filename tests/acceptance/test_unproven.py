"""A launch whose way back is not proven: a no-go before its window, until a person accepts that, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scene import brisk, evidence, release_that_answers
from stage import Stage

from safepoint.config import load
from safepoint.launch.begin import entries_of

WAIVER = '\n[wayback.waiver]\nrelease = "2.0"\nby = "Dana Scully"\nreason = "nobody writes until Monday"\n'


def without_mapper(text: str) -> str:
    """Only a person knows that 2.0's cents were a debit and a credit, and nobody says so."""
    lines = text.splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith("[wayback.tables.ledger_journalline]"))
    return brisk("".join(lines[:at] + lines[at + 2 :]))


@pytest.mark.slow
def test_without_a_mapper_nothing_begins_and_who_goes_on_all_the_same_stands_in_ledger_and_report(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = make_stage(lines=500, change=without_mapper)
    refused = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "The way back is not proven" in refused.stdout and "[wayback.waiver]" in refused.stdout
    assert entries_of(stage.plan)[-1].data["status"] == "failed" and release_that_answers(stage) == "1.0"
    assert not {"final-snapshot", "stop-traffic"} & {entry.step for entry in entries_of(stage.plan)}

    stage.plan_path.write_text(stage.plan_path.read_text() + WAIVER)
    stage.plan = load(stage.plan_path)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert "accepted for 2.0: nobody writes until Monday (Dana Scully)" in launched.stdout
    assert evidence(stage, "prove-way-back")["waived"]["by"] == "Dana Scully"
    (waived,) = (one for one in evidence(stage, "gate-stop")["reasons"] if "way back" in one["why"])
    assert waived["verdict"] == "waived" and "Dana Scully" in waived["why"]
    rolled = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled.returncode == 0, rolled.stdout + rolled.stderr
    assert evidence(stage, "back-carry")["reason"].endswith("nobody writes until Monday (Dana Scully)")
    assert stage.safepoint("report", "--html", str(tmp_path / "page.html"), capture=True).returncode == 0
    assert "nobody writes until Monday (Dana Scully)" in (tmp_path / "page.html").read_text()
