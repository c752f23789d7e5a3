"""How long a snapshot (dump and fingerprint) takes against the runbook's dump, and a fingerprint against counting.

Paired: both are run in turn on one server, and the median of the ratios counts.
Run: python bench/snapshot.py [entries] [pairs]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from results import Result, show

from safepoint.backup.fingerprint import take
from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import Installation, installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

DATA = Path(__file__).parent / "data.sql"
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "fsync": "off", "autovacuum": "off"}
BIG = ("journal_line", "journal_entry")


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tool(programs: Installation, target: Target, *argv: str) -> None:
    """Run one of PostgreSQL's programs."""
    env = {**os.environ, **target.env(), **target.secrets()}
    subprocess.run([programs.program(argv[0]), *argv[1:]], env=env, check=True, stdout=subprocess.DEVNULL)


def count(target: Target) -> None:
    """The bare count of the two big tables."""
    with connect(target) as connection:
        for table in BIG:
            connection.execute(f"select count(*) from {table}")  # type: ignore[call-overload]


def ratio(name: str, ratios: list[float], limit: float, detail: str) -> Result:
    """One line of the results' table: the median of the pairs."""
    return Result(name, round(statistics.median(ratios), 3), "ratio", limit, detail)


def measure(entries: int, pairs: int) -> list[Result]:
    """All numbers of this file."""
    programs = installation(17)
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with Server.create(folder / "server", programs, password="bench", settings=SETTINGS) as server:
            target = server.target
            tool(programs, target, "psql", "-q", "-v", f"entries={entries}", "-f", str(DATA))
            with connect(target) as connection:
                row = connection.execute("select pg_database_size(current_database())").fetchone()
            megabytes = row[0] / 1024**2 if row else 0
            return _pairs(folder, programs, target, pairs, f"{megabytes:.0f} MB, {os.cpu_count()} cores")


def _pairs(folder: Path, programs: Installation, target: Target, pairs: int, where: str) -> list[Result]:
    dumps, counts, lines = [], [], []
    jobs = os.cpu_count() or 1
    dump = folder / "runbook.dump"
    for number in range(pairs):
        old = timed(lambda: tool(programs, target, "pg_dump", "-F", "c", "-b", "-f", str(dump)))
        new = timed(
            lambda number=number: take_snapshot(  # type: ignore[misc]
                target,
                Here("here", folder),
                installation=programs,
                folder=folder / "snapshots",
                snapshot_id=f"s{number}",
                launch_id=None,
                jobs=jobs,
            )
        )
        counting = timed(lambda: count(target))
        printing = timed(lambda: take(target, jobs=jobs))
        dumps.append(new / old)
        counts.append(printing / counting)
        lines.append(f"{new:.2f} s / {old:.2f} s")
    return [
        ratio("snapshot_vs_runbook_dump", dumps, 0.25, f"{where}; {', '.join(lines)}"),
        ratio(
            "fingerprint_vs_count",
            counts,
            3.0,
            f"{where}; {printing:.2f} s / {counting:.2f} s; bounded by the types' output functions: exact means each "
            "value as COPY writes it, and a bare COPY of these tables takes half as long as the fingerprint",
        ),
    ]


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    found = measure(*[*arguments, *(500_000, 3)[len(arguments) :]])
    show(found)
