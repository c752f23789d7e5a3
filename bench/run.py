"""`make bench`: all numbers, written to bench/results/ and shown as a table. Takes some ten minutes on two cores.

Run: python bench/run.py [entries of the big database; 2,000,000 make 0.9 GB]
"""

from __future__ import annotations

import sys

import detection
import launch
import proof
import snapshot
from results import show, write


def main() -> int:
    """Measure everything; 1 when a number is over its limit."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    snapshots = [*snapshot.measure(entries, 3), *proof.measure(entries), *detection.measure()]
    launches = [one for one in snapshots if one.name == "snapshot_vs_runbook_dump"] + launch.measure(entries, 3)
    write("snapshot.json", snapshots)
    write("launch.json", launches)
    numbers = {one.name: one for one in (*snapshots, *launches)}
    show(list(numbers.values()))
    return 0 if all(one.holds for one in numbers.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
