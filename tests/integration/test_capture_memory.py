"""What a drain and a listing take of memory does not grow with the size of the rows that were written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from books import Books

from safepoint.postgres.connections import connect
from safepoint.wayback.capture.capture import How, arm, disarm
from safepoint.wayback.capture.spool import read_changes

CHILD = """
import json, sys
from pathlib import Path
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import CaptureFacts, drain
from safepoint.wayback.affected.written import list_written
said = json.load(sys.stdin)
target, spool = Target(**said["target"]), Path(said["spool"])
print(drain(target, CaptureFacts.from_json(said["facts"]), spool).changes)
print(list_written(target, spool, spool.with_name("written.csv")).rows)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""
ROWS, EACH = 200, 1_000_000


HOW = ["logical", pytest.param("triggers", marks=pytest.mark.slow)]


@pytest.mark.parametrize("how", HOW)
def test_many_large_values_pass_through_little_memory(one_site: Books, tmp_path: Path, how: How) -> None:
    site, spool = one_site, tmp_path / "spool"
    facts = arm(site.target, "books-2.0", how)
    with connect(site.application) as connection:
        connection.execute(
            "insert into ledger_entry (memo, author_id) select repeat(n::text, %s), 1 from generate_series(100, %s) n",
            [EACH // 3, 99 + ROWS],
        )
    live = site.target
    target = {"host": live.host, "port": live.port, "dbname": live.dbname, "user": live.user, "password": live.password}
    words = json.dumps({"target": target, "facts": facts.as_json(), "spool": str(spool)})
    done = subprocess.run([sys.executable, "-c", CHILD], input=words, capture_output=True, text=True, check=True)
    changes, listed, kilobytes = (int(word) for word in done.stdout.split())
    assert changes == listed == ROWS
    assert sum(len(str(change.new["memo"])) for change in read_changes(spool)) == EACH // 3 * 3 * ROWS
    assert kilobytes < 120 << 10, f"{kilobytes >> 10} MB for {ROWS} rows of 1 MB"
    disarm(site.target, facts)
