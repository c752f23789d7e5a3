"""What the capture costs those who write: pgbench's TPC-B-like transactions, in turns without and with it."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results import Result

from safepoint.launch.wayback.following import SPOOLED_EVERY, Standby, spool_only
from safepoint.postgres.binaries import installation
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm, disarm

# A disk that others share makes one pair differ from the next by a third: only many say a few hundredths.
ROUNDS = 20
# Of the follower's rounds: what was written in so many seconds is taken off the server in them.
SECONDS = round(3 * SPOOLED_EVERY)
CLIENTS = 4
SCALE = 20
# As a server is run: every commit is on the disk before it is acknowledged.
SETTINGS = {
    "wal_level": "logical",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
}


def writers(how: How, name: str, limit: float, parent: Path | None = None) -> list[Result]:
    """The share of throughput that is left with the capture on: the median of pairs that follow each other.

    Args:
        parent: the folder for the server; in memory nobody waits for a disk, and only the processors' work is left.
    """
    with _server(parent) as database:
        _pgbench(database, "-i", "-q", "-s", str(SCALE))
        _pgbench(database, *_words(SECONDS))  # warm
        pairs = []
        for number in range(ROUNDS):
            both = {}
            # Who goes first changes: what slows the machine down for a while must not always hit the same one.
            for captured in (False, True) if number % 2 else (True, False):
                both[captured] = _captured(database, how) if captured else _throughput(database)
            pairs.append(both)
    ratios = sorted(both[True] / both[False] for both in pairs)
    # The ranks between which the median of all pairs there could be lies in 95 of 100 such runs (by the binomial).
    aside = round(1.96 * len(ratios) ** 0.5 / 2)
    middle = ratios[len(ratios) // 2 - aside], ratios[(len(ratios) - 1) // 2 + aside]
    without = statistics.median(both[False] for both in pairs)
    where = "" if parent is None else " to memory"
    detail = (
        f"pgbench TPC-B-like, {CLIENTS} clients, scale {SCALE}, fsync on{where}, {ROUNDS} pairs of {SECONDS} s, with "
        f"`safepoint follow`, of {without:,.0f} transactions/s without; the median lies between {middle[0]:.3f} and "
        f"{middle[1]:.3f} (95 %), the pairs between {ratios[0]:.3f} and {ratios[-1]:.3f}; capture: {how}"
    )
    return [Result(name, round(statistics.median(ratios), 3), "of without", limit, detail, at_least=True)]


@contextmanager
def _server(parent: Path | None) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-", dir=parent) as folder:
        Path(folder).chmod(0o755)
        server = Server.create(Path(folder) / "pg", installation(17), settings=SETTINGS, purpose=SCRATCH).start()
        try:
            yield server.target
        finally:
            server.remove()


def _words(seconds: int) -> tuple[str, ...]:
    return ("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds))


def _throughput(database: Target) -> float:
    said = _pgbench(database, *_words(SECONDS))
    found = re.search(r"tps = ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def _captured(database: Target, how: How) -> float:
    """With the capture armed, and taken off the server while the writers write, as `safepoint follow` does it.

    It has been so for a while: the follower's first round finds what a whole pause of its own has left.
    """
    facts = arm(database, "bench", how)
    over = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        standby = Standby(database, database, "postgres", Path(folder), "bench", facts, "row", None, None, {})
        _pgbench(database, *_words(round(SPOOLED_EVERY)))
        thread = threading.Thread(target=spool_only, args=(standby, over.is_set))
        thread.start()
        try:
            return _throughput(database)
        finally:
            over.set()
            thread.join()
            disarm(database, facts)


def _pgbench(database: Target, *words: str) -> str:
    program = installation(17).bin_dir / "pgbench"
    where = ("-h", database.host, "-p", str(database.port), "-U", database.user)
    env = {**os.environ, "PGPASSWORD": database.password or ""}
    done = subprocess.run(
        [str(program), *where, *words, database.dbname], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
