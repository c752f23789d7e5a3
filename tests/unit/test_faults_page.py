"""The page of the faults names tests that exist, and says of the slow ones that they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
LINES = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "::" in line]


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.rpartition("::")[2].strip(" |"))
def test_every_test_that_is_named_exists_and_is_marked_where_it_is_slow(line: str) -> None:
    ((path, name),) = re.findall(r"\| (tests/\w+/\w+\.py)::(test_\w+) \|$", line)
    text = source(path)
    found = re.search(rf"^((?:@.*\n(?:[ )\]].*\n)*)*)def {name}\(", text, re.MULTILINE)
    assert found, f"{path} has no {name}"
    slow = "mark.slow" in found[1] or re.search(r"^pytestmark = .*slow", text, re.MULTILINE) is not None
    assert slow is ("◷" in line)


def test_every_kind_of_fault_has_lines() -> None:
    kinds = re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert kinds == [
        "Dump",
        "Archive",
        "Store",
        "Versions",
        "Retention",
        "Verifier",
        "Conductor",
        "PostgreSQL",
        "People",
    ]
    assert len(LINES) > 80
