"""A rollback's numbers are the same in the ledger's steps, in the report's data, on its page, and in `status`."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from stories import rolled_back

from safepoint.launch.report import build, render
from safepoint.launch.report.model import _rollback
from safepoint.launch.report.standing import standing
from safepoint.launch.report.steps import step_rows

TELL = {"users": 2, "whole": 1, "unknown": 0, "carried": 100, "part": 3, "stashed": 7, "lost": 12, "notes": []}
TELL |= {"page": "affected.html", "letters": "affected-users.csv"}


def told(path: Path, carry: dict[str, Any], listing: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """The rollback as data, as the page's text, and what `status` says is safe."""
    entries = rolled_back(path).entries
    rows = step_rows(entries)
    (row,) = (one for one in rows if one["id"] == "back-list")
    row["evidence"] = {**row["evidence"], **listing}
    rows += [{**row, "id": "back-carry", "evidence": carry}, {**row, "id": "back-tell", "evidence": TELL}]
    report = {**build(entries), "rollback": _rollback(entries, rows)}
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", render(report))).split())
    safe = standing({**report, "steps": rows})["safe"]
    return report["rollback"], text, safe


@pytest.mark.parametrize(
    ("carry", "listing", "carried", "left"),
    [
        # As the steps have it now; as former versions wrote it; with what a lost capture had not read; discarded.
        ({"carried": 28, "listed": 3}, {"carried": 28, "listed": 3}, 28, 3),
        ({"carried": 28, "listed": 3}, {"carried": 0, "listed": 31}, 28, 3),
        ({"carried": 28, "listed": 0}, {"carried": 28, "listed": 3}, 28, 3),
        ({"carried": 0, "reason": "--discard was ordered"}, {"carried": 0, "listed": 31}, 0, 31),
    ],
)
def test_what_was_carried_and_what_was_not_make_up_the_list(
    tmp_path: Path, carry: dict[str, Any], listing: dict[str, Any], carried: int, left: int
) -> None:
    listing = {**listing, "transactions": 31, "rows": 124, "housekeeping_rows": 2}
    rollback, page, safe = told(tmp_path / "ledger.jsonl", carry, listing)
    assert (rollback["carried"], rollback["listed"]) == (carried, left)
    assert rollback["carried"] + rollback["listed"] == rollback["transactions"]
    assert f"Carried back {carried} transactions Not carried {left} transactions" in page
    assert "The list 31 transactions, 124 changes of rows, in affected.csv" in page
    assert f"{carried} transactions written on 2.0 were carried back, {left} were not: affected.csv says" in safe


def test_changes_by_what_became_of_them_make_up_the_list_with_djangos_own(tmp_path: Path) -> None:
    facts = {"transactions": 31, "rows": 124, "housekeeping_rows": 2, "carried": 28, "listed": 3}
    rollback, page, _ = told(tmp_path / "ledger.jsonl", {"carried": 28, "listed": 3}, facts)
    affected = rollback["affected"]
    parts = [affected[name] for name in ("carried", "part", "stashed", "lost")]
    assert sum(parts) + rollback["housekeeping_rows"] == rollback["rows"] == 124
    assert (
        "100 carried back as they were, 3 in part, 7 put away for the next launch, 12 lost; and 2 of Django's" in page
    )
