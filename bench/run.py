"""`make bench`: all numbers, written to bench/results/ and shown as tables. Takes some two hours on two cores.

The way back's and the rehearsal's numbers can be measured alone: `python bench/wayback.py NAMES`, `bench/rehearsal.py`.
A live server slower than the scratch one needs root, and is by itself: `bench/unequal.py`.

Run: python bench/run.py [entries of the big database; 2,000,000 make 0.9 GB]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    others = [
        subprocess.run([sys.executable, Path(__file__).with_name(name)], check=False).returncode
        for name in ("wayback.py", "rehearsal.py")
    ]
    return 0 if all(one.holds for one in numbers.values()) and not any(others) else 1


if __name__ == "__main__":
    sys.exit(main())
