"""The list of what was written counts any number of users, and names the first of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from safepoint.wayback.affected import counting
from safepoint.wayback.affected.counting import UserCounts

CHILD = """
import json
from pathlib import Path
from safepoint.wayback.affected.lines import Row
from safepoint.wayback.affected.written import _Tally
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before, tally = peak(), _Tally()
for n in range(300_000):
    tally.add(Row("2026", n, "0/1", "t", "insert", "id=1", f"customer-{n}@example.org", "row", False, "x=1"))
written = tally.written(Path("x"), (), True, 1.0)
print(json.dumps([written.user_count, len(json.dumps(written.as_json())), peak() - before]))
"""


def test_neither_memory_nor_the_ledger_grow_with_the_users() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    count, length, kilobytes = json.loads(done.stdout)
    assert count == 300_000
    assert length < 200_000, f"{length} characters for the ledger"
    assert kilobytes < 25_000, f"{kilobytes} kB more"


@pytest.mark.parametrize("held", [2, 1000])
def test_those_with_the_most_rows_come_first(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    monkeypatch.setattr(counting, "_HELD", held)
    counts = UserCounts()
    for name in "abcabadae":
        counts.add(name)
    assert counts.ended(2) == ({"a": 4, "b": 2}, 5)
    assert UserCounts().ended(2) == ({}, 0)
